"""TensorBoard's files, read back as TensorBoard reads them."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import events, read
from PIL import Image
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from vdm.runs.events import EventFiles

CONFIG = {"training.steps": 100, "data.name": "digits", "schedule.gamma_min": -13.3, "data.shape": (8, 8, 1)}


def record(kind: str, step: int, bits_per_dim: float) -> dict[str, Any]:
    return {"kind": kind, "step": step, "bits_per_dim": bits_per_dim, "stderr": None}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_train_and_test_share_the_chart_of_one_name(tmp_path: Path, picture: Path) -> None:
    file = EventFiles(tmp_path / "tensorboard", 0, CONFIG)
    for kind, value in (("train", 2.5), ("evaluation", 2.25), ("final", 2.0), ("weights", 1.5)):
        file.append(record(kind, 10, value))
    file.picture(10, "evaluation", "samples", picture)
    # Read before it is closed: everything is there at once.
    found = read(tmp_path / "tensorboard")
    numbers = {run: tags["bits_per_dim"] for run, tags in found.items() if run}
    assert numbers == {"train": [(10, 2.5)], "test": [(10, 2.25)], "final": [(10, 2.0)], "weights": [(10, 1.5)]}
    assert found["test"]["samples"] == [(10, picture.read_bytes())]
    assert all("stderr" not in tags for tags in found.values())
    file.close()


def test_a_session_hides_what_it_does_again(tmp_path: Path, picture: Path) -> None:
    folder = tmp_path / "tensorboard"
    first = EventFiles(folder, 0, CONFIG)
    for step in (2, 4, 6):
        first.append(record("train", step, 10 + step))
    first.append(record("evaluation", 4, 1.0))
    first.append(record("evaluation", 6, 2.0))
    first.picture(6, "evaluation", "samples", picture)
    first.append(record("final", 6, 3.0))
    first.picture(6, "final", "samples", picture)
    # Killed, and gone on from step 4: nothing of a later step is left, before anything is written anew.
    second = EventFiles(folder, 4, CONFIG)
    found = read(folder)
    assert found["train"] == {"bits_per_dim": [(2, 12.0), (4, 14.0)]}
    assert found["test"] == {"bits_per_dim": [(4, 1.0)]}
    assert found["final"] == {}
    second.append(record("train", 6, 20.0))
    # Trained to its end, and called again: the final ones are made again, and are there once.
    second.append(record("final", 6, 3.0))
    third = EventFiles(folder, 6, CONFIG)
    third.append(record("final", 6, 3.5))
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
    EventFiles(tmp_path / "tensorboard", 0, CONFIG).close()
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
        EventFiles(tmp_path / "tensorboard", 0, CONFIG)
