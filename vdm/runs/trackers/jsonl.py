"""metrics.jsonl: the numbers of a run, one JSON object per line."""

import json

from vdm.files import replace_text
from vdm.runs.records import split_metrics
from vdm.runs.trackers.tracker import Numbers, TrackedRun, Tracker

NAME = "metrics.jsonl"


class Jsonl(Tracker):
    """metrics.jsonl in the run's folder, which every run has because plots, reports and resuming read it.

    When training resumes from a step, later lines and the final record are dropped. Lines that are not valid records
    are moved to metrics.jsonl.bad, with a warning.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp())
    >>> tracker = Jsonl()
    >>> tracker.start(TrackedRun(path, step=0, hyperparameters={}, total="bits_per_dim", warn=print))
    >>> tracker.scalars("train", 100, {"bits_per_dim": 2.5})
    >>> (path / "metrics.jsonl").read_text()
    '{"kind": "train", "step": 100, "bits_per_dim": 2.5}\\n'
    """

    def start(self, run: TrackedRun) -> None:
        self._path = run.path / NAME
        records, bad = split_metrics(self._path)
        if bad:
            with self._path.with_name(NAME + ".bad").open("ab") as file:
                file.writelines(line + b"\n" for line in bad.values())
            run.warn(f"{self._path}: no records in lines {', '.join(map(str, bad))}: moved to {NAME}.bad")
        kept = [record for record in records if record["step"] <= run.step and record["kind"] != "final"]
        replace_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))

    def scalars(self, kind: str, step: int, numbers: Numbers) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **numbers}) + "\n")
