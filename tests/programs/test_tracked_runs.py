"""Trackers of a run that is killed, resumed, and resumed with others."""

import importlib.util
import io
from dataclasses import replace
from pathlib import Path

import pytest
import wandb_files
from rich.console import Console
from tiny import Cut, run_config

from vdm import parts
from vdm.config import Config
from vdm.errors import InputError
from vdm.programs.hooks import every, standard
from vdm.programs.session import Session
from vdm.programs.train import train
from vdm.runs.records import read_metrics
from vdm.runs.trackers.tracker import Numbers, TrackedRun, Tracker
from vdm.runs.trackers.wandb import INSTALL


def tracked(folder: Path, steps: int, *loggers: str) -> Config:
    config = run_config(folder, steps, log_every=1, evaluate_every=2)
    return replace(config, training=replace(config.training, loggers=loggers))


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason=f"no wandb: {INSTALL}")
def test_wandb_has_each_record_of_a_killed_run_once_and_others_may_follow(tmp_path: Path) -> None:
    config, path = tracked(tmp_path, 4, "wandb(project='mine', mode='offline')"), tmp_path / "run"

    def cut(session: Session) -> None:
        if session.step == 3:
            raise Cut

    with pytest.raises(Cut):  # with a checkpoint of step 2
        train(config, path, hooks=[*standard(), every(1, cut)], console=Console(file=io.StringIO()))
    train(config, path, console=Console(file=io.StringIO()))
    sessions = wandb_files.sessions(path)
    assert len(sessions) == 2
    assert len({each.id for each in sessions}) == 1
    rows = [row for each in sessions for row in each.rows]
    groups = {"train": "train", "test": "evaluation", "final": "final"}
    sent = sorted(
        (kind, row["step"], row[f"{group}/bits_per_dim"])
        for row in rows
        for group, kind in groups.items()
        if f"{group}/bits_per_dim" in row
    )
    kept = [(each["kind"], each["step"], each["bits_per_dim"]) for each in read_metrics(path / "metrics.jsonl")]
    assert sent == sorted(kept)
    assert [step for kind, step, _ in sent if kind == "train"] == [1, 2, 3, 4]
    assert "final/samples/width" in {name for row in rows for name in row}
    assert not (path / "tensorboard").exists()
    # Another tracker makes it no other run.
    train(tracked(tmp_path, 5, "tensorboard"), path, console=Console(file=io.StringIO()))
    assert (path / "tensorboard").is_dir()
    assert read_metrics(path / "metrics.jsonl")[-1]["step"] == 5
    assert len(wandb_files.sessions(path)) == 2


def test_one_of_ones_own_sees_the_run_and_its_failure_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[TrackedRun] = []

    class Mine(Tracker):
        """Fails after the start."""

        def start(self, run: TrackedRun) -> None:
            started.append(run)

        def scalars(self, kind: str, step: int, numbers: Numbers) -> None:
            raise ConnectionError("no network")

    monkeypatch.setitem(parts.PARTS["tracker"], "mine", Mine)
    out = io.StringIO()
    train(tracked(tmp_path, 2, "mine"), tmp_path / "run", console=Console(file=out, width=200))
    assert [(run.step, run.hyperparameters["training.steps"], run.total) for run in started] == [(0, 2, "bits_per_dim")]
    assert out.getvalue().count("warning: tracker mine: no network; training goes on") == 1
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["kind"] == "final"


def test_one_that_is_not_there_is_refused_before_there_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else real(name, *rest))
    with pytest.raises(InputError, match="wandb is not installed"):
        train(tracked(tmp_path, 2, "wandb"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"config\.training\.loggers=\('comet',\): 'comet': .*must be one of jsonl"):
        train(tracked(tmp_path, 2, "comet"), tmp_path / "run")
