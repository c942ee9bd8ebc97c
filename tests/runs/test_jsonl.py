"""metrics.jsonl: what is there after a resume, a kill, damage and a full disk."""

import json
from pathlib import Path

import pytest

from vdm.runs.records import read_metrics
from vdm.runs.trackers.jsonl import Jsonl
from vdm.runs.trackers.tracker import TrackedRun


def started(path: Path, step: int) -> tuple[Jsonl, list[str]]:
    """The tracker, and its warnings."""
    tracker, warnings = Jsonl(), list[str]()
    tracker.start(TrackedRun(path, step, {}, "bits_per_dim", warnings.append))
    return tracker, warnings


def test_metrics_after_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"kind": "train", "step": step}) for step in (10, 20, 30)]
    path.write_text("\n".join(lines) + '\n{"step": 4')  # the last line cut short by a kill
    tracker, warnings = started(tmp_path, 20)
    tracker.scalars("train", 21, {"bits_per_dim": 1.5, "stderr": None})
    assert [record["step"] for record in read_metrics(path)] == [10, 20, 21]
    assert read_metrics(path)[-1] == {"kind": "train", "step": 21, "bits_per_dim": 1.5, "stderr": None}
    assert warnings == []


def test_a_bad_line_costs_no_other_and_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    good = [json.dumps({"kind": "train", "step": step, "bits_per_dim": 1.5}).encode() for step in (10, 20, 30)]
    bad = [
        *(b"\xff\xfe", b"", b"[" * 100_000, b"[1]", b"3", b'{"step": 10}', b'{"kind": "train", "step": "10"}'),
        *(b'{"kind": 1, "step": 10}', b'{"kind": "train", "step": 10, "bits_per_dim": "low"}', b'{"kind": "tr'),
    ]
    lines = [good[0], *bad, *good[1:]]
    path.write_bytes(b"\n".join(lines) + b'\n{"cut short')
    assert [record["step"] for record in read_metrics(path)] == [10, 20, 30]
    assert path.read_bytes().startswith(b"\n".join(lines))
    (warning,) = started(tmp_path, 20)[1]
    assert warning == f"{path}: no records in lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11: moved to metrics.jsonl.bad"
    assert (tmp_path / "metrics.jsonl.bad").read_bytes() == b"\n".join(bad) + b"\n"
    assert path.read_bytes() == b"\n".join(good[:2]) + b"\n"
    assert started(tmp_path, 20)[1] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_full_disk_is_an_error_of_metrics(tmp_path: Path) -> None:
    tracker, _ = started(tmp_path, 0)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        tracker.scalars("train", 1, {})
