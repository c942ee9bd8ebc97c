"""The folder of a run: one writer at a time, and one config and data set, which checks hold it to."""

import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from vdm import settings
from vdm.config import Config, to_dict
from vdm.errors import InputError
from vdm.files import write_json
from vdm.reading import shown
from vdm.runs.records import read_config, read_record, session_record, trained_with


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

    def write_record(self, devices: dict[str, Any], given: Sequence[str] = ()) -> None:
        """run.json: the data set, what decides the training, and for each session a `session_record`."""
        session = session_record(self._config, devices, given)
        sessions = [*read_record(self.path).get("sessions", []), session]
        record = {"data": self._data, "trained_with": trained_with(self._config), "sessions": sessions}
        write_json(self.path / "run.json", record)


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


def check_same_data(record: dict[str, Any], data: dict[str, Any], path: Path) -> None:
    """Raises `InputError` if `data` differ from those in a run's record; their name (a path, say) may change."""
    for name, before in record.get("data", {}).items():
        # Classes that were not known then may be known now.
        if name != "name" and before is not None and data.get(name) != before:
            raise InputError(
                f"--workdir={path}: made with other data: {name} {shown(before)} there, {shown(data.get(name))} here"
            )


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
