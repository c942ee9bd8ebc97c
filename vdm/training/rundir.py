"""The folder of a run: one writer at a time, one config, and a record of what made it."""

import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from vdm.config import Config, flatten, from_dict, to_dict
from vdm.errors import InputError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")

# Fields that do not change what is trained: they may differ when a run goes on.
FREE = (
    "data.data_dir", "data.num_workers",
    "training.log_every", "training.evaluate_every", "training.checkpoint_every", "training.sample_every",
    "training.keep_checkpoints", "evaluation.", "sampling.",
)  # fmt: skip


class RunDir:
    """`workdir` with config.json, run.json, metrics.jsonl, evaluation.json, checkpoints/, samples/, plots/.

    Holds a lock while open: a second writer is refused with `InputError`, and so is a config that would change what
    is trained.
    """

    def __init__(self, path: Path, config: Config):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise InputError(f"--workdir={path}: {error.strerror}") from error
        self._lock = (path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"--workdir={path}: another run is writing here") from error
        if (path / "config.json").exists():
            check_same(read_config(path), config, path)
        write_json(path / "config.json", to_dict(config))

    def close(self) -> None:
        """Gives the folder up to other writers."""
        self._lock.close()

    def write_record(self, data: dict[str, Any], devices: dict[str, Any]) -> None:
        """run.json: data set, devices, versions, precision and git revision."""
        record = {
            "command": sys.argv,
            "data": data,
            "devices": devices,
            "precision": {"training": "default", "parameters": "float32"},
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "git_revision": git_revision(),
        }
        write_json(self.path / "run.json", record)


class MetricsFile:
    """metrics.jsonl: one JSON object a line. On resuming from a step, later lines are dropped."""

    def __init__(self, path: Path, step: int):
        self._path = path
        kept = [record for record in read_metrics(path) if record["step"] <= step]
        _replace(path, "".join(json.dumps(record) + "\n" for record in kept))

    def append(self, record: dict[str, Any]) -> None:
        """Adds one line."""
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")


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
    try:
        return from_dict(json.loads((path / "config.json").read_text()))
    except FileNotFoundError as error:
        raise InputError(f"--workdir={path}: has no config.json; train.py makes it") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path / 'config.json'}: not valid JSON ({error})") from error


def check_same(old: Config, new: Config, path: Path) -> None:
    """Raises `InputError` that lists the fields in which `new` would train something else than `old`."""
    a, b = flatten(old), flatten(new)
    # Without a decay, more steps continue the very same run.
    free = (*FREE, "training.steps") if new.optimizer.decay == "constant" else FREE
    differing = [name for name in a if a[name] != b[name] and not name.startswith(free)]
    if differing:
        listed = ", ".join(f"{name} {a[name]!r} there, {b[name]!r} here" for name in differing)
        raise InputError(f"--workdir={path}: belongs to another config: {listed}")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` so that a kill leaves either the old file or the new one."""
    _replace(path, json.dumps(value, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def git_revision() -> str | None:
    """Commit of the source tree ("-dirty" if changed), or None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
