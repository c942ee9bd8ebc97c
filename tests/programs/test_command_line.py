"""The programs as a user meets them: help, and bad input as one line with exit status 2."""

import importlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from commands import run

from vdm import parts
from vdm.comparisons import modes
from vdm.programs import command_line, help_text


def assert_refused(result: subprocess.CompletedProcess[str], *mentions: str) -> None:
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    assert len(lines[0]) < 400
    for mention in mentions:
        assert mention in lines[0]


PROGRAMS = {"train": "digits", "evaluate": None, "sample": None, "compare": "compare_digits"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_has_two_tiers(name: str) -> None:
    """The flags with one example, in a page; and every field of the config with its meaning."""
    command = importlib.import_module(f"vdm.programs.commands.{name}")
    define, description = command.define, command.__doc__
    second = modes.load("steps").settings if name == "compare" else None
    modules, flags_before = (define.__module__, command_line.__name__), set(flags.FLAGS)
    try:
        define()
        brief, full = (
            help_text.help_of(f"{name}.py", description, modules, PROGRAMS[name], second, full)
            for full in (False, True)
        )
        added = set(flags.FLAGS) - flags_before
    finally:
        for flag in set(flags.FLAGS) - flags_before:
            delattr(flags.FLAGS, flag)
    lines = brief.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= help_text.HELP_WIDTH
    assert f"usage:   python {name}.py [flags]" in lines
    assert len([line for line in lines if line.startswith(f"example: python {name}.py --")]) == 1
    assert brief.count(f"python {name}.py") == 2
    listed = [line for line in lines if line.startswith("  --")]
    assert {line.split()[0] for line in listed} == {f"--{flag}" for flag in (*added, *OWN)}
    # One column of texts.
    assert len({len(line) - len(line.split(maxsplit=1)[1]) for line in listed}) == 1
    assert "  --config.training.steps=" not in brief
    for flag in ("training.steps", "sampling.num"):
        assert f"  --config.{flag}=" in full
    assert "Total number of optimizer steps." in full
    assert ("  --comparison.trained=" in full) == (name == "compare")
    if name == "sample":
        for part, line in parts.describe("sampler").items():
            assert part in brief
            assert line not in brief
            assert " ".join(f"{part}: {line}".split()) in " ".join(full.split())


OWN = ("config", "workdir", "import", "helpfull")


def test_help_of_a_program(tmp_path: Path) -> None:
    for flag, shown in (("--help", False), ("--helpfull", True)):
        result = run("compare.py", "--by=sampler", flag, cwd=tmp_path)
        assert result.returncode == 0
        assert ("  --comparison.calls=" in result.stdout) == shown


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["--config.training.stepz=3"], ["training.stepz", "training.steps"]),
        (["--config.trainin.steps=3"], ["trainin.steps", "training.steps"]),
        (["--config.training.steps=abc"], ["training.steps", "abc"]),
        (["--config.network.dtype=bfloat16"], ["network.dtype", "--config.training.precision", "tf32", "bfloat16"]),
        (["--config.training.steps=0"], ["training.steps=0", "1 or more"]),
        (["--config.schedule.name=quadratic"], ["quadratic", "learned_monotone"]),
        (["--config=configs/nothing.py"], ["configs/nothing.py"]),
        (["--steps=3"], ["steps"]),
        (["--profile_steps=20:10"], ["--profile_steps=20:10", "FIRST:LAST"]),
        (["extra"], ["extra"]),
    ],
)
def test_bad_command_lines(args: list[str], mentions: list[str], tmp_path: Path) -> None:
    assert_refused(run("train.py", f"--workdir={tmp_path / 'run'}", *args), *mentions)
    assert not (tmp_path / "run").exists()


def test_a_comparison_of_what_are_no_steps(tmp_path: Path) -> None:
    result = run("compare.py", f"--workdir={tmp_path / 'run'}", "--comparison.trained=('a',)")
    assert_refused(result, "comparison.trained=('a',)", "a tuple, each a whole number")
    assert not (tmp_path / "run").exists()


def test_a_config_file_that_fails_or_makes_something_else(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    assert_refused(run("train.py", f"--config={tmp_path / 'broken.py'}"), "broken.py")
    (tmp_path / "number.py").write_text("def get_config():\n    return 3\n")
    assert_refused(run("train.py", f"--config={tmp_path / 'number.py'}"), "number.py")


def test_bad_data_leaves_no_run_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "floats.npz", train=np.zeros((20, 4, 4)), test=np.zeros((5, 4, 4)))
    for name, mention in (
        (f"npz:{tmp_path / 'missing.npz'}", "missing.npz"),
        (f"npz:{tmp_path / 'floats.npz'}", "float64"),
        ("no_such_data_set", "digits, photos32, npz:PATH, folder:PATH"),
    ):
        env_dir = f"--config.data.data_dir={tmp_path / 'data'}"
        args = (f"--workdir={tmp_path / 'run'}", f"--config.data.name={name}", env_dir)
        assert_refused(run("train.py", *args), mention)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("program", ["evaluate.py", "sample.py"])
def test_a_folder_without_a_run(program: str, tmp_path: Path) -> None:
    assert_refused(run(program, f"--workdir={tmp_path / 'nothing'}"), "nothing", "vdm train")


def test_a_comparison_of_samplers_needs_a_run(tmp_path: Path) -> None:
    assert_refused(run("compare.py", "--by=sampler"), "--by=sampler", "--run")
    assert_refused(run("compare.py", "--by=objective", f"--run={tmp_path}"), str(tmp_path), "config.json")
    assert_refused(run("compare.py", "--by=sampler", f"--run={tmp_path / 'nothing'}"), "nothing", "vdm train")
    # Of a program without that flag it is none.
    assert_refused(run("train.py", "--run=nothing"), "Unknown command line flag 'run'")


def test_flags_may_be_given_as_two_words(tmp_path: Path) -> None:
    assert_refused(run("evaluate.py", "--workdir", tmp_path / "nothing"), "nothing", "vdm train")


SMALL = [
    *("--config.network.name=dit", "--config.network.channels=4", "--config.network.depth=1"),
    "--config.schedule.name=learned_monotone(hidden=4)",
    *("--config.training.steps=2", "--config.training.batch_size=4", "--config.training.checkpoint_every=1"),
    *("--config.evaluation.draws=1", "--config.sampling.num=2", "--config.sampling.steps=2"),
    *("--config.training.evaluate_every=0", "--config.training.sample_every=0", "--config.evaluation.batch_size=10"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on a small npz file, in `run` beside `a.npz`."""
    folder = tmp_path_factory.mktemp("cli")
    values = np.random.default_rng(0).integers(0, 17, (30, 4, 4)).astype(np.uint8)
    np.savez(folder / "a.npz", train=values[:20], test=values[20:])
    result = run("train.py", f"--workdir={folder / 'run'}", *train_flags(folder))
    assert result.returncode == 0, result.stderr
    return folder


def train_flags(folder: Path) -> list[str]:
    data = [f"--config.data.name=npz:{folder / 'a.npz'}", "--config.data.shape=(4,4,1)"]
    return [*data, *SMALL]


def test_the_three_programs_on_a_file_of_images(trained: Path) -> None:
    workdir, evaluations = f"--workdir={trained / 'run'}", trained / "run" / "evaluations"
    of_training = (trained / "run" / "evaluation.json").read_text()
    evaluated = run("evaluate.py", workdir, "--config.evaluation.draws=3")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "±" in evaluated.stdout
    assert f"wrote {evaluations / 'step_2_draws_3_T_inf.json'}" in evaluated.stdout
    in_tf32 = "--config.evaluation.precision=tf32"
    several = run("evaluate.py", workdir, "--T=2,inf", "--config.objective.num_steps=None", in_tf32)
    assert several.returncode == 0, several.stderr
    assert several.stdout.count("bits/dim (tf32, as float32 on this device)") == 2
    assert {path.name for path in evaluations.iterdir()} == {
        "step_2_draws_3_T_inf.json", "step_2_draws_1_T_2_precision_tf32.json",
        "step_2_draws_1_T_inf_precision_tf32.json",
    }  # fmt: skip
    precisions = {path.name: json.loads(path.read_text())["precision"] for path in evaluations.iterdir()}
    assert precisions == {name: "tf32" if "tf32" in name else "float32" for name in precisions}
    assert (trained / "run" / "evaluation.json").read_text() == of_training
    # A run that is only read: what is there stays as it is, to the time of its last change.
    before, out = files(trained / "run"), trained / "elsewhere"
    ode = run("evaluate.py", workdir, f"--out={out}", "--ode=2", "--images=3", "--probes=1", "--tolerance=0.01")
    assert ode.returncode == 0, ode.stderr
    assert "each only with its own kind" in ode.stdout
    name = "step_2_ode_2_probes_1_tolerance_0.01_images_3_draws_1.json"
    assert f"wrote {out / 'evaluations' / name}" in ode.stdout
    record = json.loads((out / "evaluations" / name).read_text())
    assert [record[name] for name in ("num_images", "num_draws", "num_probes", "tolerance")] == [3, 2, 1, 0.01]
    terms = record["bits_per_dim"]
    total = sum(terms[name] for name in ("reconstruction", "latent", "dequantization"))
    assert terms["total"] == pytest.approx(total)
    assert terms["importance_weighted"] is None
    assert record["variational"]["num_images"] == 3
    assert record["difference"]["mean"] == pytest.approx(total - record["variational"]["bits_per_dim"]["total"])
    assert record["solver_error"]["num_images"] == 3
    assert record["solver_error"]["bits_per_dim"] >= 0
    assert "solver's error at most" in ode.stdout
    assert 0 < record["network_calls_per_draw"]["mean"] <= record["network_calls_per_draw"]["max"]
    assert (record["split"], record["checkpoint_step"], record["weights"]) == ("test", 2, "ema")
    flags = ("--num=3", "--steps=3", "--seed=5", "--decode=draw", "--precision=float32", "--trajectory=2")
    sampled = run("sample.py", workdir, *flags)
    assert sampled.returncode == 0, sampled.stderr
    names = {path.name for path in (trained / "run" / "samples").iterdir()}
    stem = "step_2_seed_5_T_3_ancestral_draw_float32"
    assert {stem, f"{stem}.png", f"{stem}_trajectory_2.gif", f"{stem}_trajectory_2.png", "final.png"} <= names
    with np.load(trained / "run" / "samples" / stem / "shard_00000.npz") as file:
        assert file["images"].shape == (3, 4, 4, 1)
    between = files(trained / "run")
    flags = ("--sampler=ddim", "--eta=0", "--decode=mean", "--steps=4", "--reconstruct=2")
    made_again = run("sample.py", workdir, f"--out={out}", *flags)
    assert made_again.returncode == 0, made_again.stderr
    assert "mean absolute error of 2 reconstructions" in made_again.stdout
    assert (out / "samples" / "step_2_seed_0_T_4_ddim_0.0_mean_reconstruction_2.png").stat().st_size > 0
    assert files(trained / "run") == between
    assert {path: when for path, when in between.items() if path in before and path.is_file()} == {
        path: when for path, when in before.items() if path.is_file()
    }


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file and folder with its size and time of change."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize(
    ("flags", "mentions"),
    [
        (["--eta=0.5"], ["--eta=0.5", "ancestral", "--sampler=ddim"]),
        (["--sampler=ddim", "--eta=1.5"], ["eta=1.5", "from 0 to 1"]),
        (["--sampler=dimm"], ["'dimm'", "ddim", "dpm_solver_pp"]),
        (["--grid=linear"], ["grid", "linear", "karras"]),
        (["--steps=0"], ["sampling.steps=0", "from 1 to"]),
        (["--interpolate=3", "--reconstruct=2"], ["--interpolate", "one at a time"]),
    ],
)
def test_sampling_that_is_refused(trained: Path, flags: list[str], mentions: list[str]) -> None:
    assert_refused(run("sample.py", f"--workdir={trained / 'run'}", *flags), *mentions)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_full_disk_is_one_line(trained: Path) -> None:
    folder = trained / "run" / "samples" / "step_2_seed_9_T_2_ancestral"
    folder.mkdir()
    (folder / "shard_00000.npz.partial").symlink_to("/dev/full")
    result = run("sample.py", f"--workdir={trained / 'run'}", "--seed=9")
    assert_refused(result, str(trained / "run"), "the disk is full", "run the same command to go on")


def test_samplers_compared_on_a_run(trained: Path) -> None:
    fields = ["samplers=('heun@karras',)", "calls=(2,)", "noises=('ddim(0)',)", "noise_steps=(2,)", "samples=8"]
    flags = [f"--comparison.{field}" for field in (*fields, "reference_calls=3")]
    result = run("compare.py", "--by=sampler", f"--run={trained / 'run'}", *flags)
    assert result.returncode == 0, result.stderr
    table = (trained / "run" / "samplers" / "samplers.md").read_text()
    assert result.stdout.endswith(table)
    for text in ("| ddim(0) | ", "| heun@karras | ", "| ancestral | "):
        assert text in table
    assert_refused(run("compare.py", f"--run={trained / 'run'}"), "--by=steps", "--run")
    broken = run("compare.py", "--by=sampler", f"--run={trained / 'run'}", "--config.network.channels=8")
    assert_refused(broken, "another config", "network.channels")


def test_a_run_is_not_taken_for_another_model(trained: Path) -> None:
    before = (trained / "run" / "evaluation.json").read_text()
    for field in ("schedule.gamma_min=-20", "network.fourier=(1,2)", "network.channels=8"):
        name = field.split("=")[0]
        assert_refused(run("evaluate.py", f"--workdir={trained / 'run'}", f"--config.{field}"), "another config", name)
    assert_refused(run("evaluate.py", f"--workdir={trained / 'run'}", "--T=²"), "--T=²", "inf")
    assert_refused(run("evaluate.py", f"--workdir={trained / 'run'}", "--T=2", "--variance=3"), "--variance", "--T")
    for given, mentions in (
        (["--ode=1", "--T=2"], ["--ode", "--T"]),
        (["--images=3"], ["--images", "--ode", "--classify"]),
        (["--classify=4", "--T=2"], ["--classify", "--T"]),
        (["--drop_error=0.1"], ["--drop_error", "--classify=DRAWS only"]),
        (["--classify=4"], ["--classify", "given nothing"]),
        (["--out="], ["--out=", "must name a folder"]),
        ([f"--out={trained / 'a.npz'}"], ["--out: cannot write to", "a.npz", "Not a directory"]),
        (["--ode=0"], ["--ode=0", "from 1 to"]),
        (["--ode=1", "--tolerance=0"], ["--tolerance=0", "above 0"]),
        (["--ode=1", "--config.objective.num_steps=5"], ["num_steps=5", "None"]),
    ):
        assert_refused(run("evaluate.py", f"--workdir={trained / 'run'}", *given), *mentions)
    assert_refused(run("sample.py", f"--workdir={trained / 'run'}", "--num=0"), "sampling.num=0")
    assert_refused(run("sample.py", f"--workdir={trained / 'run'}", "--checkpoint=7"), "'7'", "[1, 2]")
    for flag, *mentions in (
        ("--config.seed=3", "seed"),
        ("--config.training.steps=1", "training.steps 2 there, 1 here"),
    ):
        assert_refused(run("train.py", f"--workdir={trained / 'run'}", *train_flags(trained), flag), *mentions)
    assert (trained / "run" / "evaluation.json").read_text() == before


def test_changed_data_are_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    flags = [flag.replace(str(trained), str(tmp_path / "copy")) for flag in train_flags(trained)]
    values = np.zeros((20, 4, 4), np.uint8)
    np.savez(tmp_path / "copy" / "a.npz", train=values, test=values[:10])
    assert_refused(run("train.py", f"--workdir={tmp_path / 'copy' / 'run'}", *flags), "other data", "version")


def test_a_truncated_checkpoint_is_one_line(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "2").rglob("d/*"):
        os.truncate(path, path.stat().st_size // 2)
    assert_refused(run("evaluate.py", f"--workdir={tmp_path / 'run'}"), "cannot be read", "[1]")
    resumed = run("train.py", f"--workdir={tmp_path / 'run'}", *train_flags(trained))
    assert resumed.returncode == 0
    assert "step 2 cannot be read" in " ".join(resumed.stdout.split())
    assert "Traceback" not in resumed.stderr


def test_programs_run_from_any_folder(tmp_path: Path) -> None:
    assert run("train.py", "--help", cwd=tmp_path).returncode == 0
    assert not os.listdir(tmp_path)
