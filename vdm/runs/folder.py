"""The folder of a run: one writer at a time, and one config and data set, which checks hold it to."""

import fcntl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from vdm.config import Config, flatten, to_dict
from vdm.errors import InputError
from vdm.files import write_json
from vdm.runs.records import read_config, read_record, session_record

# Fields that do not change what is trained: they may differ when a run goes on.
# The data's name is free as well: `check_same_data` compares what it stands for. A run may go on with less memory, that
# is with the same gradients computed in other pieces, but not in another dtype.
FREE = (
    "data.name", "data.data_dir", "data.num_workers", "network.remat", "training.accumulate",
    "training.log_every", "training.evaluate_every", "training.checkpoint_every", "training.sample_every",
    "training.keep_checkpoints", "training.fsdp", "evaluation.", "sampling.", "comparison.",
)  # fmt: skip


# Fields that decide what a checkpoint's arrays mean; dropout acts in training only.
MODEL = (
    "schedule.", "data.shape", "data.levels", "data.classes", "data.entries", "network.channels", "network.depth",
    "network.attention", "network.condition",
    "network.heads", "network.groups", "network.fourier", "network.prediction", "objective.proposal",
)  # fmt: skip


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
        """run.json: the data set, and for each session a `session_record`."""
        session = session_record(self._config, devices, given)
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


def check_same_data(record: dict[str, Any], data: dict[str, Any], path: Path) -> None:
    """Raises `InputError` if `data` differ from those in a run's record; their name (a path, say) may change."""
    for name, before in record.get("data", {}).items():
        # Classes that were not known then may be known now.
        if name != "name" and before is not None and data[name] != before:
            raise InputError(f"--workdir={path}: made with other data: {name} {before!r} there, {data[name]!r} here")


def check_same_model(old: Config, new: Config, path: Path) -> None:
    """Raises `InputError` if `new` describes another model than the run in `path` has."""
    _refuse_differing(old, new, lambda name: name.startswith(MODEL), path)


def check_same(old: Config, new: Config, path: Path) -> None:
    """Raises `InputError` that lists the fields in which `new` would train something else than `old`."""
    # Without a decay, more steps continue the very same run.
    free = (*FREE, "training.steps") if new.optimizer.decay == "constant" else FREE
    _refuse_differing(old, new, lambda name: not name.startswith(free), path)


def _refuse_differing(old: Config, new: Config, matters: Callable[[str], bool], path: Path) -> None:
    a, b = flatten(old), flatten(new)
    differing = [name for name in a if a[name] != b[name] and matters(name)]
    if differing:
        listed = ", ".join(f"{name} {a[name]!r} there, {b[name]!r} here" for name in differing)
        raise InputError(f"--workdir={path}: belongs to another config: {listed}")
