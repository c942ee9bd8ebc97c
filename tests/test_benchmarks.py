"""The benchmarks, tiny: what they print; no figure of time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment

ROOT = Path(__file__).parents[1]


def run(*arguments: str, program: str = "sampler.py") -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "benchmarks" / program), *arguments]
    env = environment(PYTHONPATH=str(ROOT))
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=False)


def test_sampler() -> None:
    small = ("--channels=4", "--depth=1", "--steps=2", "--batch_size=2", "--repeats=1", "--devices=1")
    result = run("--samplers=heun", *small)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)["cases"]["digits"]
    heun = figures["samplers"]["heun"]
    assert heun["calls"] == 4
    assert heun["images_per_second"] * heun["seconds"] == pytest.approx(2)
    assert heun["overhead"] > 0
    counts = {name: found["compiled"] for name, found in figures["compilations"].items()}
    assert counts["first"] > 0
    # η and seed are traced; each number of steps is another shape.
    assert counts["eta"] == counts["seed"] == 0
    assert counts["steps"] >= 2


def test_guidance() -> None:
    small = ("--channels=4", "--depth=1", "--steps=2", "--batch_size=2", "--repeats=1", "--devices=1")
    result = run(*small, program="guidance.py")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)["cases"]["digits"]
    assert set(figures["seconds"]) == {"unguided", "two_calls", "together", "apart"}
    for how in ("together", "apart"):
        of_seconds = figures["seconds"][how] / figures["seconds"]["unguided"]
        assert figures[how]["over_unguided"] == pytest.approx(of_seconds)
    assert figures["faster"] in ("together", "apart")


@pytest.mark.slow
def test_inception() -> None:
    result = run("--images=2", "--batch_sizes=2", "--repeats=1", "--devices=2", program="inception.py")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["batch_sizes"]["2"]["images_per_second"] > 0


def test_bad_options_are_one_line() -> None:
    for option, mention in (("--samplers=plms", "must be one of ancestral"), ("--cases=mnist", "'mnist'")):
        result = run(option)
        assert result.returncode == 2
        assert mention in result.stderr
        assert "Traceback" not in result.stderr


def test_train_step_compiled_only() -> None:
    small = ("--cases=digits", "--depth=1", "--batch_size=4", "--steps=0", "--devices=2")
    result = run(*small, "--precision=bfloat16", "--remat", "--accumulate=2", "--fsdp=2", program="train_step.py")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)["cases"]["digits"]
    assert (figures["precision"], figures["remat"], figures["accumulate"]) == ("bfloat16", True, 2)
    for name in ("compiled_flops", "compiled_bytes_accessed", "compiled_program_bytes", "kept_bytes"):
        assert figures[name] > 0
    # Parameters, two moments and the moving average in float32, cut among two devices but for the small ones.
    state = 4 * 4 * figures["num_parameters"]
    assert 0.5 * state < figures["argument_bytes_per_device"] < 0.6 * state
    assert figures["temporary_bytes_per_device"] > 0
    assert "step_seconds" not in figures
    refused = run(*small, "--accumulate=3", program="train_step.py")
    assert refused.returncode == 2
    assert "training.accumulate=3: must be a divisor of batch_size=4" in refused.stderr
    refused = run(*small, "--fsdp=3", program="train_step.py")
    assert refused.returncode == 2
    assert "training.fsdp=3: must divide the 2 devices" in refused.stderr


@pytest.mark.slow
def test_labelled_step() -> None:
    small = ("--channels=4", "--depth=1", "--batch_size=4", "--steps=2", "--devices=1")
    result = run(*small, program="labelled_step.py")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)["cases"]["digits_conditional"]
    # A vector of 4 · 4 for each of ten classes, and one for those that are dropped.
    counts = [figures[name]["num_parameters"] for name in ("labelled", "unlabelled")]
    assert counts[0] - counts[1] == 11 * 16
    assert figures["ratios"]["model_flops"] == 1
    low, high = figures["ratio_quartiles"]
    assert 0 < low <= figures["ratio"] <= high
    refused = run("--cases=rgb32", program="labelled_step.py")
    assert refused.returncode == 2
    assert "'rgb32' has no labels; must be among digits_conditional" in refused.stderr


def test_reference_step() -> None:
    small = ("--cases=digits", "--channels=4", "--depth=1", "--steps=1", "--devices=1")
    result = run(*small, program="reference_step.py")
    # It refuses a reference of another number of parameters.
    assert result.returncode == 0, result.stderr
    programs = json.loads(result.stdout)["cases"]["digits"]["programs"]
    reference = programs["reference"]
    assert reference["ratio"] == 1
    for name in ("ours_linear", "ours"):
        assert programs[name]["ratio"] == programs[name]["step_seconds"] / reference["step_seconds"]
        # Next to a network this small the reconstruction term's 17 levels and the learned schedule weigh; normalisation
        # and dropout take less.
        assert 0.9 < programs[name]["compiled_flops"] / reference["compiled_flops"] < 4


@pytest.mark.slow
def test_convergence(tmp_path: Path) -> None:
    small = "network.channels=4 network.depth=1 training.steps=2 training.batch_size=4"
    arguments = (f"--config={ROOT}/configs/digits.py", f"--all={small}", "--devices=1", "--images=4", "--draws=1")
    variants = "adamw: optimizer.name=adamw; muon: optimizer.name=muon training.steps=1"
    out = f"--out={tmp_path / 'runs.jsonl'}"
    result = run(*arguments, f"--variants={variants}", "--seeds=0,1", out, program="convergence.py")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [(line["variant"], line["seed"], list(line["bits_per_dim"])) for line in lines] == [
        ("adamw", 0, ["1", "2"]), ("adamw", 1, ["1", "2"]), ("muon", 0, ["1"]), ("muon", 1, ["1"])
    ]  # fmt: skip
    last = [line["bits_per_dim"][str(line["config"]["training"]["steps"])]["ema"] for line in lines]
    pairs = last[2] - last[0], last[3] - last[1]
    assert found["adamw"]["ema"]["difference"] == 0
    assert found["muon"]["ema"]["difference"] == pytest.approx(sum(pairs) / 2)
    assert found["muon"]["ema"]["stderr"] == pytest.approx(abs(pairs[0] - pairs[1]) / 2)
    # What is there is not made again: it must be the same.
    refused = run(*arguments, "--variants=adamw: optimizer.b1=0.5", "--seeds=1", out, program="convergence.py")
    assert refused.returncode == 2
    assert "its 'adamw' has another config" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_metrics() -> None:
    result = run("--metrics=fid;coverage", "--num=40", "--dims=8", program="metrics.py")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["metrics"]
    assert set(found) == {"fid", "coverage"}
    for figures in found.values():
        assert set(figures["seconds"]) == {"prepare", "estimate", "again"}
        assert figures["peak_mb"] >= figures["start_mb"] > 0


@pytest.mark.slow
def test_dinov2() -> None:
    small = ("--sizes=b", "--batch_sizes=1", "--images=1", "--repeats=1", "--devices=1")
    result = run(*small, program="dinov2.py")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)["networks"]["ViT-B/14"]["1"]
    assert figures["images_per_second"] > 0


@pytest.mark.slow
def test_exact_posteriors(tmp_path: Path) -> None:
    small = ("--measurements=2", "--samples=32", "--steps=40", f"--out={tmp_path / 'figures.json'}")
    result = run("--methods=exact,mmps(10),repaint(1)", *small, program="exact_posteriors.py")
    assert result.returncode == 0, result.stderr
    found = {}
    for case in json.loads((tmp_path / "figures.json").read_text())["cases"]:
        found[case["data"], case["operator"], case["std"], case["method"]] = case
    # RePaint is of masks alone.
    assert len(found) == 2 * 3 * (2 * 3 + 1)
    # On a Gaussian moment matching is exact: the same noise makes the same samples.
    one, other = (found["gaussian", "missing", 0.1, method]["spread"]["value"] for method in ("exact", "mmps(10)"))
    assert one == pytest.approx(other, rel=1e-3)
    assert found["mixture", "missing", 0.1, "exact"]["component"]["value"] < 0.2
    assert run("--methods=ddrm", program="exact_posteriors.py").returncode == 2


def test_codec_gap() -> None:
    small = ("--images=32", "--batches=4", "--max_steps=30")
    result = run(*small, "--vary=mean_steps,precision", program="codec_gap.py")
    assert result.returncode == 0, result.stderr
    varied = json.loads(result.stdout)["varied"]
    # Simulated with the coder's own precision, a step costs what it does with the coder.
    coder = next(case for case in varied["mean_steps"] if case["mean_steps"] == 256)
    simulated = varied["precision"][-1]
    assert (coder["simulated"], simulated["simulated"], simulated["precision"]) == (False, True, 24)
    assert coder["bound"] == simulated["bound"]
    spread = coder["over_densities_stderr"] + simulated["over_densities_stderr"]
    assert abs(coder["over_densities"] - simulated["over_densities"]) < 5 * spread < 0.01
    assert varied["mean_steps"][0]["over_densities"] > coder["over_densities"] + 0.1
