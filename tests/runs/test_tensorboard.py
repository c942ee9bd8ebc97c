"""TensorBoard's files, read back as TensorBoard reads them."""

import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from event_files import events, read
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from vdm.plots.png import png
from vdm.runs.trackers.tensorboard import TensorBoard
from vdm.runs.trackers.tracker import TrackedRun

CONFIG = {"training.steps": 100, "data.name": "digits", "schedule.gamma_min": -13.3, "data.shape": (8, 8, 1)}


def started(path: Path, step: int = 0) -> TensorBoard:
    tracker = TensorBoard()
    tracker.start(TrackedRun(path, step, CONFIG, "bits_per_dim", print))
    return tracker


def record(kind: str, step: int, bits_per_dim: float) -> tuple[str, int, dict[str, float | None]]:
    return kind, step, {"bits_per_dim": bits_per_dim, "stderr": None, "sample": 2.0}


@pytest.fixture
def picture() -> bytes:
    return png(np.zeros((4, 6), np.uint8))


def test_train_and_test_share_the_chart_of_one_name(tmp_path: Path, picture: bytes) -> None:
    file = started(tmp_path)
    for kind, value in (("train", 2.5), ("evaluation", 2.25), ("final", 2.0), ("weights", 1.5)):
        file.scalars(*record(kind, 10, value))
    file.picture("evaluation", 10, "samples", picture)
    # Read before it is closed: everything is there at once.
    found = read(tmp_path / "tensorboard")
    numbers = {run: tags["bits_per_dim"] for run, tags in found.items() if run}
    assert numbers == {"train": [(10, 2.5)], "test": [(10, 2.25)], "final": [(10, 2.0)], "weights": [(10, 1.5)]}
    assert found["test"]["samples"] == [(10, picture)]
    assert all(not {"stderr", "sample"} & set(tags) for tags in found.values())
    file.close()


def test_a_session_hides_what_it_does_again(tmp_path: Path, picture: bytes) -> None:
    folder = tmp_path / "tensorboard"
    first = started(tmp_path)
    for step in (2, 4, 6):
        first.scalars(*record("train", step, 10.0 + step))
    first.scalars(*record("evaluation", 4, 1.0))
    first.scalars(*record("evaluation", 6, 2.0))
    first.picture("evaluation", 6, "samples", picture)
    first.scalars(*record("final", 6, 3.0))
    first.picture("final", 6, "samples", picture)
    # Killed, and gone on from step 4: nothing of a later step is left, before anything is written anew.
    second = started(tmp_path, 4)
    found = read(folder)
    assert found["train"] == {"bits_per_dim": [(2, 12.0), (4, 14.0)]}
    assert found["test"] == {"bits_per_dim": [(4, 1.0)]}
    assert found["final"] == {}
    second.scalars(*record("train", 6, 20.0))
    # Trained to its end, and called again: the final ones are made again, and are there once.
    second.scalars(*record("final", 6, 3.0))
    third = started(tmp_path, 6)
    third.scalars(*record("final", 6, 3.5))
    found = read(folder)
    assert found["train"] == {"bits_per_dim": [(2, 12.0), (4, 14.0), (6, 20.0)]}
    assert found["final"] == {"bits_per_dim": [(6, 3.5)]}
    # Each session says its settings once, from its first step on.
    assert [step for step, _ in found[""]["config/text_summary"]] == [1, 5, 7]
    # In one second and one process, and yet no file is written over.
    assert len(list((folder / "train").iterdir())) == 3
    for file in (first, second, third):
        file.close()


def test_the_settings_are_a_table_and_hyperparameters(tmp_path: Path) -> None:
    started(tmp_path).close()
    (step, (text,)), *others = read(tmp_path / "tensorboard")[""]["config/text_summary"]
    assert (step, others) == (1, [])
    assert text.decode().splitlines()[2:] == [f"| {name} | `{value}` |" for name, value in CONFIG.items()]
    (path,) = (tmp_path / "tensorboard").glob("events.*")
    data = {
        value.tag: HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events(path)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    }
    given = data["_hparams_/session_start_info"].session_start_info.hparams
    assert given["training.steps"].number_value == 100
    assert given["data.name"].string_value == "digits"
    assert given["data.shape"].string_value == "(8, 8, 1)"
    (metric,) = data["_hparams_/experiment"].experiment.metric_infos
    assert (metric.name.group, metric.name.tag) == ("final", "bits_per_dim")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file of events has the second, the host, the process and a number in its name.
    monkeypatch.setattr(time, "time", lambda: 1.5e9)
    name = f"events.out.tfevents.1500000000.{socket.gethostname()}.{os.getpid()}.1"
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / name).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        started(tmp_path)
