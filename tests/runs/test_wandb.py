"""wandb in its offline mode: one run of it for one of ours, each row once, whatever stops and goes on."""

import importlib.util
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import wandb_files

from vdm.errors import InputError
from vdm.plots.png import png
from vdm.reading import read_json
from vdm.runs.trackers.tracker import TrackedRun
from vdm.runs.trackers.wandb import INSTALL, Wandb

needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason=f"no wandb: {INSTALL}")
CONFIG = {"training.steps": 100, "data.shape": (8, 8, 1), "data.name": "digits"}


def session(path: Path, step: int, records: list[tuple[str, int, dict[str, float | None]]]) -> None:
    """One process that goes on from `step`."""
    time.sleep(1)  # wandb names folders of sessions by the second
    tracker = Wandb(project="mine", mode="offline")
    tracker.start(TrackedRun(path, step, CONFIG, "bits_per_dim", print))
    for kind, at, numbers in records:
        tracker.scalars(kind, at, numbers)
        if kind == "evaluation":
            tracker.picture(kind, at, "samples", png(np.full((4, 6), at, np.uint8)))
    tracker.close()


def train(step: int) -> tuple[str, int, dict[str, float | None]]:
    return "train", step, {"bits_per_dim": 10.0 + step, "stderr": None}


def evaluated(step: int) -> tuple[str, int, dict[str, float | None]]:
    return "evaluation", step, {"bits_per_dim": float("nan") if step == 4 else 20.0 + step, "sample": 2.0}


@needs_wandb
def test_a_run_that_goes_on_is_one_run_of_wandb_with_each_row_once(tmp_path: Path) -> None:
    session(tmp_path, 0, [train(2), train(4), evaluated(4), train(6)])
    # Killed between the record of training at step 6 and that of the test: both come again, from step 4 on.
    session(tmp_path, 4, [train(6), evaluated(6), train(8), evaluated(8), ("final", 8, {"bits_per_dim": 1.5})])
    # Called again at its end, it makes the final record once more.
    session(tmp_path, 8, [("final", 8, {"bits_per_dim": 1.5})])
    found = wandb_files.sessions(tmp_path)
    assert len({each.id for each in found}) == 1
    assert {each.project for each in found} == {"mine"}
    assert found[0].config["training.steps"] == 100
    rows = [row for each in found for row in each.rows]
    named = [(row["step"], name, value) for row in rows for name, value in row.items() if name.endswith("bits_per_dim")]
    numbers = [(step, name, None if math.isnan(value) else value) for step, name, value in named]
    expected = [(2, "train", 12.0), (4, "train", 14.0), (4, "test", None), (6, "train", 16.0), (6, "test", 26.0),
                (8, "train", 18.0), (8, "test", 28.0), (8, "final", 1.5)]  # fmt: skip
    assert numbers == [(step, f"{kind}/bits_per_dim", value) for step, kind, value in expected]
    assert not any("stderr" in name or name.partition("/")[2] == "sample" for row in rows for name in row)
    pictures = [(row["step"], row["test/samples/width"]) for row in rows if "test/samples/width" in row]
    assert pictures == [(4, 6), (6, 6), (8, 6)]
    # To wandb, rows are numbered through: it drops what has an earlier number.
    assert [row["_step"] for row in rows] == list(range(len(rows)))


@needs_wandb
def test_a_run_that_begins_anew_in_a_folder_is_another_run(tmp_path: Path) -> None:
    session(tmp_path, 0, [train(2)])
    session(tmp_path, 0, [train(2)])
    first, second = wandb_files.sessions(tmp_path)
    assert first.id != second.id
    assert [row["train/bits_per_dim"] for each in (first, second) for row in each.rows] == [12.0, 12.0]
    assert read_json(tmp_path / "wandb" / "vdm.json")["id"] == second.id


@needs_wandb
def test_what_it_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login, as on a new machine; and a state that is none."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    run = TrackedRun(tmp_path, 0, CONFIG, "bits_per_dim", print)
    with pytest.raises(InputError, match=r"config\.training\.loggers: wandb: .*; mode='offline' needs") as caught:
        Wandb(mode="online").start(run)
    assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "wandb" / "vdm.json").write_text('{"id": "a", "rows": "many", "sent": {}}')
    with pytest.raises(InputError, match=r"vdm\.json: rows='many': must be a whole number"):
        Wandb(mode="offline").start(run._replace(step=4))


def test_a_folder_of_that_name_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library keeps its files in ./wandb, which Python takes for a package without code."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    importlib.invalidate_caches()
    assert importlib.util.find_spec("wandb") is not None
    with pytest.raises(InputError, match="wandb is not installed"):
        Wandb().check()
