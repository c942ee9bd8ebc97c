"""Event files for TensorBoard with the numbers, pictures and hyperparameters of a run."""

import io
import os
import time
from collections.abc import Mapping
from typing import Any

from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.summary_pb2 import Summary

from vdm.runs.trackers.tracker import Numbers, TrackedRun, Tracker, curves, group

CONFIG, FINAL = "", "final"
"""Subfolders. TensorBoard treats each one as a run, and numbers of the same name share a chart."""


class TensorBoard(Tracker):
    """Event files in the run's folder tensorboard/, for `tensorboard --logdir=RUN`.

    There are subfolders for training, for tests during training and for the final results; other kinds of records have
    subfolders of their own names. When a run resumes, TensorBoard hides the records that earlier sessions made after
    the step it resumes from, and all their final records, as it does for any restarted program. Everything is written
    immediately, without SummaryWriter: that writes in a thread, and if a full disk ends this thread, the program waits
    for it forever.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp())
    >>> tracker = TensorBoard()
    >>> tracker.start(TrackedRun(path, step=0, hyperparameters={}, total="bits_per_dim", warn=print))
    >>> tracker.scalars("train", 100, {"bits_per_dim": 2.5})
    >>> tracker.close()
    >>> [file.parent.name for file in path.glob("tensorboard/*/events.*")]
    ['train']
    """

    def __init__(self) -> None:
        self._writers: dict[str, EventsWriter] = {}

    def start(self, run: TrackedRun) -> None:
        self._folder, self._step = run.path / "tensorboard", run.step
        self._folder.mkdir(exist_ok=True)
        for there in sorted(path.name for path in self._folder.iterdir() if path.is_dir()):
            self._start(there)
        config = run.hyperparameters
        for value in (summary.text("config", _table(config)), *_hyperparameters(config, run.total)):
            self._write(CONFIG, run.step + 1, summary=value)

    def scalars(self, kind: str, step: int, numbers: Numbers) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in curves(numbers).items()]
        self._write(group(kind), step, summary=Summary(value=values))

    def picture(self, kind: str, step: int, name: str, png: bytes) -> None:
        with Image.open(io.BytesIO(png)) as image:
            width, height = image.size
        shown = Summary.Image(height=height, width=width, encoded_image_string=png)
        self._write(group(kind), step, summary=Summary(value=[Summary.Value(tag=name, image=shown)]))

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _write(self, run: str, step: int, **content: Any) -> None:
        if run not in self._writers:
            self._start(run)
        self._writers[run].write_event(Event(wall_time=time.time(), step=step, **content))
        self._writers[run].flush()

    def _start(self, run: str) -> None:
        folder = self._folder / run
        folder.mkdir(parents=True, exist_ok=True)
        # The file name includes the time in seconds, but a clock may be set back, and a process may train twice.
        number = sum(1 for _ in folder.glob("events.*"))
        self._writers[run] = EventsWriter(str(folder / "events"), f".{os.getpid()}.{number}")
        hidden_from = 1 if run == FINAL else self._step + 1
        self._write(run, hidden_from, session_log=SessionLog(status=SessionLog.START))


def _table(config: Mapping[str, Any]) -> str:
    """Format the config as a Markdown table."""
    return "\n".join(["| field | value |", "|---|---|", *(f"| {name} | `{value}` |" for name, value in config.items())])


def _hyperparameters(config: Mapping[str, Any], total: str) -> list[Summary]:
    """Make the summaries for TensorBoard's HPARAMS table: a row per run with its final bound or other total."""
    plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in config.items()}
    experiment, start, _ = summary.hparams(plain, {total: None})
    content = HParamsPluginData.FromString(experiment.value[0].metadata.plugin_data.content)
    # The final number is in a subfolder, for which `hparams` has no argument.
    content.experiment.metric_infos[0].name.group = FINAL
    experiment.value[0].metadata.plugin_data.content = content.SerializeToString()
    return [experiment, start]
