"""A released model comes back as the run had it, is only read, and what is wrong with one is one line."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from released_runs import ABOUT, STEP, config, contents, dataset, evaluation, finished

import vdm
from vdm import safetensors
from vdm.errors import InputError
from vdm.files import write_json
from vdm.programs.start import Start
from vdm.reading import read_json
from vdm.runs import cards
from vdm.runs.open import Run, open_run, steps
from vdm.runs.records import weights_digest
from vdm.runs.released import check_files, read_card
from vdm.runs.results import folder_of

ODE = "probability-flow ODE: comparable only with numbers of this kind"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = finished(tmp_path_factory.mktemp("released") / "run")
    digest = weights_digest(made.variables)
    (made.path / "evaluations").mkdir()
    measured = {
        "step_7_T_10": evaluation(
            3.0, 10, weights_digest=digest, command=["vdm evaluate", f"--workdir={made.path}", "--T=10"]
        ),
        "other_weights": evaluation(1.0, 10, weights_digest="sha256:0"),
        "other_step": evaluation(1.0, 10) | {"checkpoint_step": 3},
        "variance": {"checkpoint_step": STEP, "lines": []},
        "classification": {"checkpoint_step": STEP, "weights_digest": digest, "bits_per_dim": 1.0},
        "one_image": evaluation(1.0, 30, weights_digest=digest, bits_per_dim={"total": 1.0, "stderr": None}),
        "other_data": evaluation(1.0, 20, weights_digest=digest, data=dataset().info.to_dict() | {"version": "2"}),
        "step_7_T_10_precision_bfloat16": evaluation(3.1, 10, weights_digest=digest, precision="bfloat16"),
    }
    for name, numbers in measured.items():
        write_json(made.path / "evaluations" / f"{name}.json", numbers)
    return made


@pytest.fixture(scope="module")
def released(run: Run) -> Path:
    folder = run.path.parent / "models" / "tiny"
    cards.write(run, ABOUT, folder)
    return folder


@pytest.fixture
def here(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy as vdm:tiny, in a folder of the test's own."""
    shutil.copytree(released, tmp_path / "models" / "tiny")
    monkeypatch.setenv("VDM_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models" / "tiny"


def test_it_comes_back_with_the_bits_of_the_run(run: Run, here: Path) -> None:
    opened = vdm.open_run("vdm:tiny")
    assert (opened.step, opened.path, opened.name) == (STEP, here, "vdm:tiny")
    for there, back in ((run.variables, opened.variables), (run.proposal, opened.proposal)):
        assert jax.tree.structure(there) == jax.tree.structure(back)
        for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(back), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    assert opened.config == replace(config(), data=replace(config().data, name="npz:mine.npz", data_dir="data"))
    given = dataset()
    renamed = replace(given, info=replace(given.info, name="npz:mine.npz"))
    assert vdm.open_run("vdm:tiny", dataset=renamed).dataset is not None
    assert steps(here) == [STEP]


def test_the_path_of_a_folder_will_do(here: Path) -> None:
    assert weights_digest(open_run(here).variables) == weights_digest(open_run("vdm:tiny").variables)


def test_the_card_has_what_was_measured_of_these_weights_alone(run: Run, released: Path) -> None:
    card = read_card(released)
    found = [
        (each["kind"], each["T"], each["bits_per_dim"], each["stderr"], each["command"]) for each in card["bounds"]
    ]
    trained_by = "python train.py --workdir=runs/tiny --config=digits.py"
    assert found == [
        ("variational", 10, 3.0, 0.25, "vdm evaluate --workdir=vdm:tiny --T=10"),
        ("variational", 10, 3.1, 0.25, trained_by),
        ("variational", None, 2.5, 0.25, trained_by),
    ]
    assert card["training"]["commands"] == [trained_by]
    assert card["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(run.variables))
    text = (released / "README.md").read_text()
    for said in (
        "3.00 ± 0.25",
        "vdm evaluate --workdir=vdm:tiny --T=10",
        "CC0-1.0",
        card["files"]["config.json"]["sha256"],
    ):
        assert said in text


def test_what_is_measured_of_it_later_is_added_to_its_card(here: Path, tmp_path: Path) -> None:
    before, copied, added = read_card(here), tmp_path / "copied", tmp_path / "added"
    cards.write_again(open_run("vdm:tiny"), copied)
    assert contents(copied) == contents(here)
    command, later = ["vdm evaluate", "--workdir=vdm:tiny"], tmp_path / "runs" / "vdm_tiny" / "evaluations"
    later.mkdir(parents=True)
    digest = weights_digest(open_run("vdm:tiny").variables)
    for name, found in {
        "importance": evaluation(2.25, 10, by_draws=[], command=command, weights_digest=digest),
        "again": evaluation(3.5, 10, command=command, weights_digest=digest),  # once more, at T = 10
        "other_weights": evaluation(1.0, 10, command=command, weights_digest="0" * 64),
        # Of different tolerances neither replaces the other.
        "ode": evaluation(2.0, None, kind=ODE, command=[*command, "--ode=1"], weights_digest=digest),
        "coarse": evaluation(
            2.1, None, kind=ODE, command=[*command, "--ode=1", "--tolerance=0.1"], weights_digest=digest
        ),
    }.items():
        write_json(later / f"{name}.json", found)
    assert cards.write_again(open_run("vdm:tiny"), added) == read_card(added)
    found = [(each["kind"], each["T"], each["bits_per_dim"]) for each in read_card(added)["bounds"]]
    variational = [("variational", 10, 3.5), ("variational", 10, 3.1), ("variational", None, 2.5)]
    assert found == [*variational, ("importance", 10, 2.25), ("ode", None, 2.1), ("ode", None, 2.0)]
    assert read_card(added) | {"bounds": 0} == before | {"bounds": 0}
    assert "2.25 ± 0.25" in (added / "README.md").read_text()
    check_files(added)


def test_a_model_under_another_name_is_called_by_its_own_in_commands(here: Path, tmp_path: Path) -> None:
    here.rename(here.with_name("other"))
    run = open_run("vdm:other")
    command = ["vdm evaluate", "--workdir=vdm:other", "--importance=4"]
    found = evaluation(2.25, 10, by_draws=[], command=command, weights_digest=weights_digest(run.variables))
    (run.home / "evaluations").mkdir(parents=True)
    write_json(run.home / "evaluations" / "importance.json", found)
    card = cards.write_again(run, tmp_path / "added")
    assert card["bounds"][-1]["command"] == "vdm evaluate --workdir=vdm:tiny --importance=4"


@pytest.mark.parametrize("entries", [None, 3, ["a"], [{"kind": "ode"}], [{"kind": "best", "given": "", "T": 1}]])
def test_a_card_that_cannot_be_added_to_is_one_line(here: Path, tmp_path: Path, entries: Any) -> None:
    card = read_card(here)
    write_json(here / "card.json", card | {"bounds": entries})
    run = open_run("vdm:tiny")
    cards.write_again(run, tmp_path / "copied")
    assert contents(tmp_path / "copied") == contents(here)
    (run.home / "evaluations").mkdir(parents=True)
    found = evaluation(2.25, 10, weights_digest=weights_digest(run.variables))
    write_json(run.home / "evaluations" / "again.json", found)
    with pytest.raises(InputError, match=r"^.*card\.json: cannot be added to: \w+Error: ") as refused:
        cards.write_again(run, tmp_path / "added")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "added").exists()


def test_paths_of_the_machine_stay_there(run: Run, released: Path) -> None:
    for name in ("card.json", "config.json", "README.md"):
        text = (released / name).read_text()
        assert not re.search(r"/home|/tmp|/me\b", text)
        assert str(run.path.parent) not in text


def test_what_is_no_path_stays_as_it_is() -> None:
    words = ("3/4 of it", "a (b/c) d", "runs/digits", "N(0, 1)/2", "https://example.org/a/b", "--T=10,100")
    assert [cards.portable(word) for word in words] == list(words)
    paths = {"/home/me/x.npz": "x.npz", "npz:/data/x.npz": "npz:x.npz", "--a='/b/c'": "--a='c'", "~/data/": "data"}
    assert {path: cards.portable(path) for path in paths} == paths
    assert cards.portable({"a": ["/b/c", 3, None]}) == {"a": ["c", 3, None]}


def test_results_go_elsewhere(here: Path) -> None:
    before = contents(here)
    assert folder_of(Path("vdm:tiny"), None, "evaluations") == Path("runs/vdm_tiny/evaluations")
    assert folder_of(here, None, "evaluations") == Path("runs/vdm_tiny/evaluations")
    assert folder_of(Path("vdm:tiny"), Path("mine"), "samples") == Path("mine/samples")
    assert open_run("vdm:tiny").home == Path("runs/vdm_tiny")
    for name in ("vdm:tiny", here):
        with pytest.raises(InputError, match="is a released model, which is only read"):
            vdm.train(config(), name, dataset())
    assert contents(here) == before


def test_a_run_starts_from_its_weights(here: Path) -> None:
    mesh = open_run(here).mesh
    start = Start.read("vdm:tiny", open_run(here).config, None, mesh, begun=False)
    assert (start.record["run"], start.record["step"]) == ("vdm:tiny", STEP)
    assert start.variables is not None
    assert start.record["weights_digest"] == weights_digest(open_run(here).variables)


@pytest.mark.parametrize("checkpoint", ["latest", "best", STEP, "7"])
def test_it_has_one_checkpoint(here: Path, checkpoint: str | int) -> None:
    assert open_run("vdm:tiny", checkpoint).step == STEP


def test_it_has_no_other_checkpoint(here: Path) -> None:
    with pytest.raises(InputError, match="has one checkpoint, of step 7; there is no '6'"):
        open_run("vdm:tiny", 6)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def change(path: Path) -> None:
    """A number in the config, which stays a config."""
    path.write_text(path.read_text().replace('"gamma_min": -7.0', '"gamma_min": -7.5'))


def another_architecture(path: Path) -> None:
    """Whole, and as the card says, but of wider layers."""
    arrays = safetensors.read(path).arrays
    name = next(name for name in arrays if name.endswith("conv_in/kernel"))
    safetensors.write(path, arrays | {name: np.concatenate([arrays[name]] * 2, axis=-1)})
    card_path = path.with_name("card.json")
    card = json.loads(card_path.read_text())
    card["files"]["model.safetensors"] = {"sha256": cards.sha256(path), "bytes": path.stat().st_size}
    write_json(card_path, card)


@pytest.mark.parametrize(
    ("name", "harm", "says"),
    [
        ("model.safetensors", flip, "SHA-256"),
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:1000]), "has 1000 bytes"),
        ("model.safetensors", Path.unlink, "no such file"),
        ("model.safetensors", another_architecture, "is of another architecture: network/conv_in/kernel is float32"),
        ("config.json", change, "SHA-256"),
        ("config.json", Path.unlink, "no such file"),
        ("card.json", lambda path: path.write_text("{"), "not valid JSON"),
        ("card.json", lambda path: path.write_text("{}"), "has no format"),
        ("card.json", lambda path: path.write_text('{"format": 2}'), "a later vdm reads it"),
        ("card.json", lambda path: write_json(path, read_json(path) | {"step": 2**40}), "must be from 0 to 2147483647"),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(here: Path, name: str, harm: Callable[[Path], None], says: str) -> None:
    harm(here / name)
    with pytest.raises(InputError, match=re.escape(says)) as refused:
        open_run("vdm:tiny")
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_there_is_replaced_by_a_whole_one(run: Run, here: Path) -> None:
    (here / "old").write_text("")
    cards.write(run, replace(ABOUT, description="Another"), here)
    assert read_card(here)["description"] == "Another"
    assert sorted(path.name for path in here.iterdir()) == [
        "README.md",
        "card.json",
        "config.json",
        "model.safetensors",
    ]
    assert [path.name for path in here.parent.iterdir()] == ["tiny"]
    check_files(here)


def test_a_folder_that_cannot_be_replaced_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, replace_ = contents(here), os.replace

    def replaced(source: Path, target: Path) -> None:
        if source.name == ".tiny.partial":
            raise OSError(errno.EIO, "Input/output error")
        replace_(source, target)

    monkeypatch.setattr("os.replace", replaced)
    with pytest.raises(InputError, match="tiny: Input/output error"):
        cards.write_again(open_run("vdm:tiny"), here)
    assert contents(here) == before
    assert [path.name for path in here.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("target", [".", "link"])
def test_a_folder_is_replaced_under_any_name(
    run: Run, here: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here if target == "." else tmp_path)
    cards.write(run, replace(ABOUT, description="Another"), Path(target))
    assert read_card(here)["description"] == "Another"
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in here.parent.iterdir()] == ["tiny"]


def test_unfinished_runs_and_models_of_the_caller_are_not_released(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    copied = replace(run, path=tmp_path / "run")
    (copied.path / "evaluation.json").rename(tmp_path / "evaluation.json")
    with pytest.raises(InputError, match="is not finished"):
        cards.write(copied, ABOUT, tmp_path / "out")
    (tmp_path / "evaluation.json").rename(copied.path / "evaluation.json")
    write_json(copied.path / "run.json", {"sessions": [{"given": ["model"]}]})
    with pytest.raises(InputError, match="model of its caller"):
        cards.write(copied, ABOUT, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_seconds_are_those_of_the_steps_in_the_logs(run: Run, tmp_path: Path) -> None:
    """Of 4 steps at 16 images/s and 3 at 8: 4·B/16 + 3·B/8."""
    shutil.copytree(run.path, tmp_path / "run")
    records = [(4, 16.0), (STEP, 8.0)]
    lines = [{"kind": "train", "step": step, "images_per_second": speed} for step, speed in records]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    batch_size = run.config.training.batch_size
    expected = batch_size * (4 / 16 + 3 / 8)
    assert cards.seconds_in_steps(replace(run, path=tmp_path / "run")) == pytest.approx(expected, abs=0.05)
    assert cards.seconds_in_steps(run) is None
