"""Two processes with two devices each, over loopback, take over a run from eight devices: as if it had stayed there."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import one_of_several
import pytest
from commands import environment
from jax.sharding import Mesh
from rich.console import Console

from vdm import parallel
from vdm.errors import Stopped
from vdm.programs.evaluate import Evaluate
from vdm.programs.hooks import every, standard
from vdm.programs.sample import Sample
from vdm.programs.session import Session
from vdm.programs.train import train
from vdm.runs import shards
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.records import read_config, read_metrics, read_record
from vdm.training.state import TrainState, abstract_state

TESTS = Path(__file__).parents[1]


def whole_state(run: Path, mesh: Mesh) -> TrainState:
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_one(abstract_state(read_config(run), mesh))


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run begun here on eight devices and taken to its end by two processes, and what they said."""
    folder = tmp_path_factory.mktemp("together")

    def stop(session: Session) -> None:
        if session.step == one_of_several.BEGUN:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped), jax.numpy_dtype_promotion("standard"):
        train(
            one_of_several.make_config(folder, fsdp=4),
            folder / "run",
            hooks=[every(1, stop), *standard()],
            console=Console(quiet=True),
        )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    env = environment(2, PYTHONPATH=path)
    script = [sys.executable, str(TESTS / "training" / "one_of_several.py"), f"localhost:{port}", "2"]
    rest = [str(folder / "run"), str(folder)]
    with (folder / "1.txt").open("w") as other:
        second = subprocess.Popen([*script, "1", *rest], env=env, stdout=other, stderr=subprocess.STDOUT)
        first = subprocess.run([*script, "0", *rest], env=env, capture_output=True, text=True, timeout=600, check=False)
        second.wait(timeout=60)
    said = [first.stdout + first.stderr, (folder / "1.txt").read_text()]
    assert "done" in said[0], said[0][-3000:]
    assert "done" in said[1], said[1][-3000:]
    return folder, said


@pytest.fixture(scope="module")
def alone(together: tuple[Path, list[str]]) -> Path:
    """The same run by this one process, on its eight devices."""
    folder, _ = together
    with jax.numpy_dtype_promotion("standard"):
        train(one_of_several.make_config(folder), folder / "alone", console=Console(quiet=True))
    return folder / "alone"


def test_a_signal_to_one_stops_all_as_they_draw_samples_which_come_later(together: tuple[Path, list[str]]) -> None:
    folder, said = together
    assert [re.findall(r"stopped at step (\d+)", text) for text in said] == [[str(one_of_several.STOPPED_AT)]] * 2
    assert (folder / "run" / "samples" / f"step_{one_of_several.STOPPED_AT:08}.png").exists()
    # One of them traced two steps of the run, which the other waited for.
    assert len(list((folder / "run" / "profile").rglob("perfetto_trace.json.gz"))) == 1


def test_bad_input_of_the_first_is_an_error_of_all(together: tuple[Path, list[str]]) -> None:
    assert all("belongs to another config: optimizer.b1 0.9 there, 0.5 here" in text for text in together[1])


def test_the_run_is_that_of_one_process(together: tuple[Path, list[str]], alone: Path) -> None:
    """But for the order in which devices add up: float32 roundings, relative to steps of 1e-2 at most."""
    folder, _ = together
    mesh = parallel.make_mesh()
    ours, theirs = (whole_state(path, mesh) for path in (folder / "run", alone))
    assert int(ours.step) == one_of_several.STEPS
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3), ours.variables, theirs.variables)
    # Each step once, written by one process, also where they were stopped.
    losses = [
        {record["step"]: record["bits_per_dim"] for record in read_metrics(path / "metrics.jsonl")
         if record["kind"] == "train"}
        for path in (folder / "run", alone)
    ]  # fmt: skip
    assert list(losses[0]) == list(range(1, one_of_several.STEPS + 1))
    np.testing.assert_allclose(list(losses[0].values()), list(losses[1].values()), rtol=1e-3)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert sum('"kind": "final"' in line for line in lines) == 1
    sessions = read_record(folder / "run")["sessions"]
    assert [s["devices"]["num_processes"] for s in sessions] == [1, 2, 2]
    assert [s["devices"]["fsdp"] for s in sessions] == [4, 2, 2]


def test_evaluation_and_samples_are_those_of_one_process(together: tuple[Path, list[str]]) -> None:
    folder, _ = together
    run, console = folder / "run", Console(quiet=True)
    config = read_config(run)
    before = {T: json.loads((run / "evaluations" / f"step_12_draws_1_T_{T}.json").read_text()) for T in ("inf", "3")}
    images = np.concatenate(list(shards.read(next(p for p in (run / "samples").iterdir() if p.is_dir()))))
    with jax.numpy_dtype_promotion("standard"):
        again = Evaluate(config, run, "latest", console).bound([None, 3], None)
        for path in (run / "samples").rglob("*.npz"):
            path.unlink()
        drawn = np.concatenate(list(shards.read(Sample(config, run, "latest", 0, console).images())))
    for evaluation, T in zip(again, before, strict=True):
        assert before[T]["num_images"] == evaluation.num_images == 300
        for name, value in evaluation.to_dict()["bits_per_dim"].items():
            if value is not None:
                np.testing.assert_allclose(before[T]["bits_per_dim"][name], value, rtol=1e-5)
    assert images.shape == drawn.shape == (10, 8, 8, 1)
    # A value within a rounding of two levels' border may fall to either side.
    assert np.mean(images != drawn) < 0.02


@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_their_checkpoint_comes_back_to_the_bit_on_any_mesh(together: tuple[Path, list[str]], fsdp: int) -> None:
    folder, _ = together
    whole, mesh = whole_state(folder / "run", parallel.make_mesh(1)), parallel.make_mesh(8, fsdp)
    restored = whole_state(folder / "run", mesh)
    jax.tree.map(np.testing.assert_array_equal, restored, whole)
    jax.tree.map(lambda x, like: x.sharding == like.sharding or pytest.fail(str(x)), restored,
                 abstract_state(read_config(folder / "run"), mesh))  # fmt: skip
