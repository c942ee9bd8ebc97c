"""tensorboard/: the numbers of metrics.jsonl, pictures and hyperparameters, for TensorBoard."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.summary_pb2 import Summary

CONFIG, TRAIN, TEST, FINAL = "", "train", "test", "final"
"""Subfolders. To TensorBoard each is a run, and what runs call by one name shares a chart."""


class EventFiles:
    """Events of this session: a subfolder for training, one for tests while training, one for what comes at the end.

    Those of earlier sessions after `step`, and all their final ones, are hidden by TensorBoard, as it does for programs
    that start again. Records of another kind have a subfolder of that name. Written at once: SummaryWriter writes in a
    thread, which dies of a full disk, and the program waits for it forever.
    """

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any], total: str = "bits_per_dim"):
        """`step` is the one that the run goes on from; `config` has its fields by name; `total` is what tells runs of
        different ones apart, a number of the final record. Raises OSError."""
        self._folder, self._step = folder, step
        self._writers: dict[str, EventsWriter] = {}
        folder.mkdir(exist_ok=True)
        for there in sorted(path.name for path in folder.iterdir() if path.is_dir()):
            self._start(there)
        for value in (summary.text("config", _table(config)), *_hyperparameters(config, total)):
            self._write(CONFIG, step + 1, summary=value)

    def append(self, record: dict[str, Any]) -> None:
        """A point on the curve of each number."""
        no_curves = ("kind", "step", "sample")
        numbers = {name: value for name, value in record.items() if name not in no_curves and value is not None}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._write(_run_of(record["kind"]), record["step"], summary=Summary(value=values))

    def picture(self, step: int, kind: str, name: str, path: Path) -> None:
        """A PNG file, beside the records of this kind."""
        with Image.open(path) as image:
            width, height = image.size
        shown = Summary.Image(height=height, width=width, encoded_image_string=path.read_bytes())
        self._write(_run_of(kind), step, summary=Summary(value=[Summary.Value(tag=name, image=shown)]))

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
        # Its name has the second as well, but a clock may be set back, and a process may train again.
        number = sum(1 for _ in folder.glob("events.*"))
        self._writers[run] = EventsWriter(str(folder / "events"), f".{os.getpid()}.{number}")
        hidden_from = 1 if run == FINAL else self._step + 1
        self._write(run, hidden_from, session_log=SessionLog(status=SessionLog.START))


def _run_of(kind: str) -> str:
    return {"evaluation": TEST}.get(kind, kind)


def _table(config: Mapping[str, Any]) -> str:
    """In Markdown."""
    return "\n".join(["| field | value |", "|---|---|", *(f"| {name} | `{value}` |" for name, value in config.items())])


def _hyperparameters(config: Mapping[str, Any], total: str) -> list[Summary]:
    """For the table of TensorBoard that has a row for each run, with its final bound, or what else is its total."""
    plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in config.items()}
    experiment, start, _ = summary.hparams(plain, {total: None})
    content = HParamsPluginData.FromString(experiment.value[0].metadata.plugin_data.content)
    # The number is in a subfolder, which `hparams` cannot say.
    content.experiment.metric_infos[0].name.group = FINAL
    experiment.value[0].metadata.plugin_data.content = content.SerializeToString()
    return [experiment, start]
