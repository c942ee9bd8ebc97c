"""Whole runs: killed and resumed to the bit, stopped by signals, and stopped by what is not finite."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from rich.console import Console

from vdm.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    NetworkConfig,
    OptimizerConfig,
    SamplingConfig,
    ScheduleConfig,
    TrainingConfig,
)
from vdm.errors import InputError
from vdm.evaluation.likelihood import Evaluation
from vdm.training.loop import NonFiniteError, train
from vdm.training.rundir import read_metrics

ROOT = Path(__file__).parent.parent.parent
STEPS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the embedded data and the runs of this file."""
    return tmp_path_factory.mktemp("loop")


def tiny(folder: Path, **optimizer: Any) -> Config:
    return Config(
        data=DataConfig(name="digits", data_dir=str(folder / "data")),
        schedule=ScheduleConfig(gamma_min=-7.0, hidden=8),
        network=NetworkConfig(channels=4, depth=1, dropout=0.2),
        optimizer=OptimizerConfig(**({"learning_rate": 1e-2, "warmup_steps": 5} | optimizer)),
        training=TrainingConfig(
            steps=STEPS, batch_size=2, log_every=4, evaluate_every=12, checkpoint_every=3, sample_every=0
        ),
        evaluation=EvaluationConfig(batch_size=100, draws=2),
        sampling=SamplingConfig(num=4, steps=2, batch_size=4),
    )


def run_here(config: Config, workdir: Path, profile: tuple[int, int] | None = None) -> tuple[Evaluation, str]:
    out = io.StringIO()
    return train(config, workdir, Console(file=out, width=200), profile=profile), out.getvalue()


def arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its path."""
    restored = ocp.StandardCheckpointer().restore((workdir / "checkpoints" / str(step) / "state").absolute())
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(restored)}


def test_a_run_leaves_everything_it_promises(folder: Path) -> None:
    result, printed = run_here(tiny(folder), folder / "whole", profile=(3, 4))
    path = folder / "whole"
    assert "traced steps 3 to 4: " in printed
    (trace,) = (path / "profile").rglob("perfetto_trace.json.gz")
    with gzip.open(trace, "rt") as file:
        events = {str(event.get("name")) for event in json.load(file)["traceEvents"]}
    # Of this very program: steps, and operations on the devices.
    assert "train" in events
    assert any("fusion" in name for name in events)
    evaluation = json.loads((path / "evaluation.json").read_text())
    assert evaluation["bits_per_dim"]["total"] == result.total
    assert set(evaluation["bits_per_dim"]) == {
        "total", "reconstruction", "prior", "diffusion", "stderr", "noise_stderr",
    }  # fmt: skip
    assert evaluation["num_images"] == 300
    assert evaluation["num_draws"] == 2
    assert evaluation["checkpoint_step"] == STEPS
    assert evaluation["data"]["name"] == "digits"
    record = json.loads((path / "run.json").read_text())
    assert record["data"]["levels"] == 17
    plots = [f"plots/{name}.png" for name in ("loss", "terms", "schedule", "times", "variance")]
    for name in ("config.json", "samples/final.png", *plots):
        assert (path / name).stat().st_size > 0, name
    assert list((path / "tensorboard").iterdir())
    kinds = [r["kind"] for r in read_metrics(path / "metrics.jsonl")]
    assert kinds.count("train") == STEPS // 4
    assert kinds.count("evaluation") == 2
    assert kinds.count("final") == 1
    assert f"step {STEPS}  test {result.total:.4f}" in printed


def test_a_finished_run_is_left_as_it_is(folder: Path) -> None:
    before = arrays(folder / "whole", STEPS)
    again, printed = run_here(tiny(folder), folder / "whole", profile=(3, 4))
    assert "--profile_steps=3:4: none of these steps was run" in printed
    assert f"resuming at step {STEPS}" in printed
    for name, value in arrays(folder / "whole", STEPS).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    kinds = [r["kind"] for r in read_metrics(folder / "whole" / "metrics.jsonl")]
    assert kinds.count("evaluation") == 2
    assert kinds.count("final") == 1
    assert json.loads((folder / "whole" / "evaluation.json").read_text())["bits_per_dim"]["total"] == again.total


def flags(folder: Path) -> list[str]:
    """The command line of `tiny`."""
    config = tiny(folder)
    groups = ("data", "schedule", "network", "optimizer", "training", "evaluation", "sampling")
    return [
        f"--config.{group}.{name}={value}"
        for group in groups
        for name, value in vars(getattr(config, group)).items()
        if value is not None and value not in ((), "")
    ]


def run_program(folder: Path, workdir: Path, stops: Sequence[tuple[int, int]] = ()) -> list[int]:
    """Runs train.py in a process of its own until it is done; kills it with (step, signal) on the way.

    Returns the exit statuses.
    """
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    env["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false"
    command = [sys.executable, str(ROOT / "train.py"), f"--workdir={workdir}", *flags(folder)]
    # An adaptive proposal's state belongs to the checkpoint as well.
    command += ["--config.objective.num_steps=50", "--config.objective.proposal=adaptive"]
    command += ["--config.training.log_every=1"] if stops else []
    statuses = []
    for stop in [*stops, None]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
        assert process.stdout is not None
        printed, sent = [], stop is None
        for line in process.stdout:
            printed.append(line)
            words = line.split()
            if not sent and words[:1] == ["step"] and int(words[1]) >= stop[0]:
                process.send_signal(stop[1])
                sent = True
        statuses.append(process.wait())
        assert statuses[-1] in (0, -signal.SIGKILL, 128 + signal.SIGTERM), "".join(printed)
    return statuses


def test_killed_and_stopped_runs_end_with_the_same_bits(folder: Path) -> None:
    assert run_program(folder, folder / "unbroken") == [0]
    stops = [(5, signal.SIGKILL), (8, signal.SIGTERM), (17, signal.SIGKILL)]
    statuses = run_program(folder, folder / "broken", stops)
    assert statuses == [-signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGKILL, 0]
    left, right = arrays(folder / "unbroken", STEPS), arrays(folder / "broken", STEPS)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)
    assert (folder / "unbroken" / "evaluation.json").read_text() == (folder / "broken" / "evaluation.json").read_text()
    steps = [r["step"] for r in read_metrics(folder / "broken" / "metrics.jsonl") if r["kind"] == "train"]
    assert steps == list(range(1, STEPS + 1))


def test_what_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(folder: Path) -> None:
    """A learning rate of 1e30 from the fourth step on: the warm-up's first step has rate 0."""
    config = tiny(folder, learning_rate=1e30, warmup_steps=1, clip_norm=0.0)
    with pytest.raises(NonFiniteError, match=r"step \d+: the (diffusion|gradient) is not finite"):
        run_here(config, folder / "nan")
    for step in (folder / "nan" / "checkpoints").glob("[0-9]*"):
        assert all(np.isfinite(x).all() for x in arrays(folder / "nan", int(step.name)).values())


def test_bad_input_found_late_leaves_no_folder(folder: Path) -> None:
    config = tiny(folder)
    config.training.batch_size = 5000
    with pytest.raises(InputError, match="5000"):
        run_here(config, folder / "late")
    assert not (folder / "late").exists()


def test_another_config_is_refused_before_anything_changes(folder: Path) -> None:
    before = (folder / "whole" / "config.json").read_text()
    with pytest.raises(InputError, match=r"optimizer\.b1"):
        run_here(tiny(folder, b1=0.5), folder / "whole")
    assert (folder / "whole" / "config.json").read_text() == before
