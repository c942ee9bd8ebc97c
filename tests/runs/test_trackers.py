"""Trackers together: which there are, and that none but metrics.jsonl and a full disk stops a run."""

import errno
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vdm import parts
from vdm.errors import InputError
from vdm.plots.png import png
from vdm.runs import trackers
from vdm.runs.records import read_metrics
from vdm.runs.trackers.tracker import TrackedRun, Tracker


def test_one_that_is_not_installed_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"config\.training\.loggers: wandb is not installed.*vdm\[wandb\]"):
        trackers.check(("tensorboard", "wandb(mode='offline')"))


class Failing(Tracker):
    """One whose network is gone."""

    def __init__(self, error: Exception):
        self.error, self.called = error, list[str]()

    def _fail(self, what: str) -> None:
        self.called.append(what)
        raise self.error

    def scalars(self, *_: Any) -> None:
        self._fail("scalars")

    def picture(self, *_: Any) -> None:
        self._fail("picture")

    def close(self) -> None:
        self._fail("close")


def run_with(path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records and a picture with this tracker, and what was warned of."""
    monkeypatch.setitem(parts.PARTS["tracker"], "mine", lambda: tracker)
    warnings: list[str] = []
    with trackers.started(("mine",), TrackedRun(path, 0, {}, "bits_per_dim", warnings.append)) as started:
        for step in (1, 2, 3):
            for each in started:
                each.scalars("train", step, {"bits_per_dim": 2.0})
                each.picture("train", step, "samples", b"")
    return warnings


def test_one_that_fails_is_warned_of_once_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Failing(ConnectionError("no route to host\nand more"))
    warnings = run_with(tmp_path, tracker, monkeypatch)
    assert warnings == ["tracker mine: no route to host; training goes on, and may lose what it tracks"]
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    # It is called again: a network that comes back loses no more.
    assert tracker.called == ["scalars", "picture"] * 3 + ["close"]


def test_a_full_disk_stops_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"):
        run_with(tmp_path, Failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), monkeypatch)


def test_one_that_cannot_start_is_refused_and_the_others_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Good(Tracker):
        def close(self) -> None:
            closed.append("good")

    class Bad(Tracker):
        def start(self, run: TrackedRun) -> None:
            raise InputError("no login")

    monkeypatch.setitem(parts.PARTS["tracker"], "good", Good)
    monkeypatch.setitem(parts.PARTS["tracker"], "bad", Bad)
    run = TrackedRun(tmp_path, 0, {}, "bits_per_dim", print)
    with pytest.raises(InputError, match="no login"), trackers.started(("good", "bad"), run):
        pass
    assert closed == ["good"]


def test_metrics_jsonl_is_there_whether_it_is_named_or_not() -> None:
    assert list(trackers.make(())) == list(trackers.make(("jsonl",))) == ["jsonl"]
    assert list(trackers.make(("tensorboard", "wandb"))) == ["jsonl", "tensorboard", "wandb"]
    for loggers in (("wandb", "wandb(project='other')"), ("jsonl", "jsonl()")):
        with pytest.raises(InputError, match=r"config\.training\.loggers=.* is listed twice"):
            trackers.make(loggers)


def test_files_figures_and_images_are_png_files(tmp_path: Path) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    (tmp_path / "picture.png").write_bytes(png(image))
    assert png(tmp_path / "picture.png") == png(image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "picture.png")), image)
    assert png(Figure()).startswith(b"\x89PNG")
