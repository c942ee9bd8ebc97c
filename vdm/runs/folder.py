"""The folder of a run: one writer at a time, one config, and a record of what made it."""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from vdm import settings
from vdm.config import Config, from_dict, to_dict
from vdm.errors import InputError
from vdm.files import replacing

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


class RunDir:
    """`workdir` with config.json, run.json, metrics.jsonl, evaluation.json, checkpoints/, samples/, plots/.

    Holds a lock while open. Raises `InputError` for a second writer, for a folder that cannot be written, and, once
    there is a checkpoint, for a config that would change what is trained or for other data under the same name.
    """

    def __init__(self, path: Path, config: Config, data: dict[str, Any]):
        """`data` is the data set's record, `DatasetInfo.to_dict()`."""
        self.path, self._config, self._data = path, config, data
        self._lock = lock(path)
        try:
            if any((path / "checkpoints").glob("[0-9]*")):
                check_same_data(read_record(path), data, path)
                check_same(read_config(path), config, path)
        except InputError:
            self.close()
            raise
        write_json(path / "config.json", to_dict(config))

    def close(self) -> None:
        """Gives the folder up to other writers."""
        self._lock.close()

    def write_record(self, devices: dict[str, Any]) -> None:
        """run.json: the data set, and for each session its command, devices, versions, precision and git revision."""
        session = {
            "command": sys.argv,
            "devices": devices,
            "precision": {
                "training": self._config.network.dtype,
                "matrix_products": jax.config.values["jax_default_matmul_precision"] or "default",
                "parameters": "float32",
            },
            "python": platform.python_version(),
            "versions": versions(),
            "git_revision": git_revision(),
        }
        sessions = [*read_record(self.path).get("sessions", []), session]
        write_json(self.path / "run.json", {"data": self._data, "sessions": sessions})


def lock(path: Path) -> TextIO:
    """Makes the folder and locks it until the returned file is closed. Raises `InputError` if another run holds it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / ".lock").open("w")
    except OSError as error:
        raise InputError(f"--workdir={path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"--workdir={path}: another run is writing here; wait for it or stop it") from error
    return file


class MetricsFile:
    """metrics.jsonl: one JSON object a line. On resuming from a step, later lines and the final one are dropped."""

    def __init__(self, path: Path, step: int):
        self._path = path
        kept = [record for record in read_metrics(path) if record["step"] <= step and record["kind"] != "final"]
        replace_text(path, "".join(json.dumps(record) + "\n" for record in kept))

    def append(self, record: dict[str, Any]) -> None:
        """Adds one line."""
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")


class EventFile:
    """tensorboard/: the numbers of metrics.jsonl for TensorBoard; those of earlier sessions after a step are hidden.

    Written at once: SummaryWriter writes in a thread, which dies of a full disk, and the program waits for it forever.
    """

    def __init__(self, folder: Path, step: int):
        folder.mkdir(exist_ok=True)
        # Its name has the second as well, but a clock may be set back.
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def append(self, record: dict[str, Any]) -> None:
        """A point on the curve of each number."""
        named = {f"{record['kind']}/{name}": value for name, value in record.items() if name not in ("kind", "step")}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in named.items() if value is not None]
        self._write(record["step"], summary=Summary(value=values))

    def close(self) -> None:
        self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))
        self._writer.flush()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def read_config(path: Path) -> Config:
    """The config of the run in `path`. Raises `InputError` if there is none or it cannot be read."""
    values = _read_json(path / "config.json")
    if values is None:
        raise InputError(f"{path}: has no config.json, so no run; train.py makes one")
    return from_dict(values)


def read_record(path: Path) -> dict[str, Any]:
    """run.json of the run in `path`, {} if there is none."""
    return _read_json(path / "run.json") or {}


def read_evaluation(path: Path) -> dict[str, Any]:
    """evaluation.json of the run in `path`, {} if there is none."""
    return _read_json(path / "evaluation.json") or {}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text())
        return value
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error


def check_same_data(record: dict[str, Any], data: dict[str, Any], path: Path) -> None:
    """Raises `InputError` if `data` differ from those in a run's record; their name (a path, say) may change."""
    for name, before in record.get("data", {}).items():
        if name != "name" and data[name] != before:
            raise InputError(f"--workdir={path}: made with other data: {name} {before!r} there, {data[name]!r} here")


def check_same_model(old: Config, new: Config, path: Path) -> None:
    """Raises `InputError` if `new` describes another model than the run in `path` has."""
    _refuse(settings.differing(old, new, "model"), path)


def check_same(old: Config, new: Config, path: Path) -> None:
    """Raises `InputError` that lists the fields in which `new` would train something else than `old`."""
    found = settings.differing(old, new, "model", "training")
    if new.optimizer.decay == "constant":
        # More steps continue the very same run.
        found.pop("training.steps", None)
    _refuse(found, path)


def _refuse(differing: dict[str, tuple[Any, Any]], path: Path) -> None:
    if differing:
        listed = ", ".join(f"{name} {there!r} there, {here!r} here" for name, (there, here) in differing.items())
        raise InputError(f"--workdir={path}: belongs to another config: {listed}")


def check_model_and_data(config: Config, data: dict[str, Any], path: Path) -> None:
    """Raises `InputError` if `config` describes another model than the run in `path` has, or other data of its name."""
    check_same_model(read_config(path), config, path)
    record = read_record(path)
    if config.data.name == record.get("data", {}).get("name"):
        check_same_data(record, data, path)


def weights_digest(variables: Any) -> str:
    """Tells the weights of checkpoints apart: a model trained anew to the same step has others."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        found.update(np.asarray(leaf).tobytes())
    return "sha256:" + found.hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    """Writes `value` so that a kill leaves either the old file or the new one."""
    replace_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Writes `text` so that a kill leaves either the old file or the new one."""
    with replacing(path) as partial:
        partial.write_text(text)


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def git_revision() -> str | None:
    """Commit of the source tree ("-dirty" if changed), or None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
