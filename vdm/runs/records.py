"""The records that a run keeps about itself: config.json, run.json, metrics.jsonl, evaluation.json."""

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vdm import settings
from vdm.config import Config, RunConfig, from_dict, validate
from vdm.errors import InputError
from vdm.files import write_json
from vdm.predecessors.config import PredecessorConfig
from vdm.reading import field, found, is_whole, parse_json, read_bytes, read_json, shown
from vdm.runs.places import CARD, is_released, located

RUNS: tuple[type, ...] = (Config, PredecessorConfig)
"""Config classes that `vdm train` accepts; `vdm.runs.kinds` defines what they describe."""

GPU = "gpu"
"""The platform on which computations may not be reproducible bit for bit."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def checkpoint_steps(path: Path) -> list[int]:
    """Return the steps of the complete checkpoints of the run in `path`, from the names of their folders."""
    return sorted(int(folder.name) for folder in (path / "checkpoints").glob("[0-9]*") if is_whole(folder.name))


def read_config(path: Path, *kinds: type) -> Any:
    """Read the config of the run in `path`, from config.json or else from run.json, and import its parts.

    `kinds` are the config classes to accept, by default only `Config`; the config of anything but a diffusion model has
    a field `task` that says what it is for.

    Raises `InputError` if there is no readable config (and says what to do), if it is invalid, or if fields that affect
    the training were edited by hand.
    """
    path = located(path)
    where = path / "config.json"
    if where.exists():
        values = _read_config_file(path)
    else:
        where, values = path / "run.json", read_record(path).get("config", {})
    if not values and checkpoint_steps(path):
        raise InputError(f"{path}: has checkpoints but no config.json; to resume, use vdm train with its --config")
    if not values:
        raise InputError(f"{path}: has no config.json, so it is not a run; vdm train makes one")
    by_name = {what(dataclasses.asdict(kind())): kind for kind in kinds or (Config,)}
    there = what(values)
    if there not in by_name:
        raise InputError(f"{path}: is a {there}'s; must be the folder of a {' or a '.join(by_name)}")
    config = from_dict(values, f"{where}: ", by_name[there])
    try:
        validate(config)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('config.')}") from error
    _check_unchanged(config, path)
    return config


def what(values: dict[str, Any]) -> str:
    """Return what a config, given as a dict, is for: "diffusion model", or the name of its task."""
    return str(values.get("task", "diffusion model"))


def _check_unchanged(config: RunConfig, path: Path) -> None:
    """Raise `InputError` if an edit of config.json changes the meaning of the checkpoints or results.

    It is compared with the copy in run.json. The number of training steps may be updated in config.json first.
    """
    record = read_record(path)
    if "config" not in record:  # written by an earlier version
        return
    there = from_dict(record["config"], f"{path / 'run.json'}: config.", type(config))
    differing = settings.differing(config, there, "model", "training")
    differing.pop("training.steps", None)
    for name, (value, before) in differing.items():
        raise InputError(
            f"{path / 'config.json'}: {name}={shown(value)}: the run was made with {shown(before)}, by run.json; put "
            "it back"
        )


def _read_config_file(path: Path) -> dict[str, Any]:
    try:
        return read_json(path / "config.json")
    except InputError as error:
        try:
            copied = "config" in read_record(path)
        except InputError:
            copied = False
        raise InputError(f"{error}{'; if you delete it, the copy in run.json is used' * copied}") from error


def read_record(path: Path) -> dict[str, Any]:
    """Read run.json of the run in `path` ({} if missing), checking the types of all fields that are used.

    For a released model, read its card, which has the same fields. Raises `InputError` for a field of the wrong type.
    """
    path = located(path)
    where = path / (CARD if is_released(path) else "run.json")
    record = read_json(where, {})
    field(record, "data", dict, where, {})
    field(record, "config", dict, where, {})
    field(record, "init_from", dict, where, {})
    field(record, "data.name", str | None, where, None)
    for k, session in enumerate(field(record, "sessions", tuple[dict, ...], where, ())):
        field(session, "given", tuple[str, ...], f"{where}: sessions.{k}", ())
    return record


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read evaluation.json of the run in `path`; {} if missing."""
    return read_json(path / "evaluation.json", {})


def session_record(config: RunConfig, devices: dict[str, Any], given: Sequence[str] = ()) -> dict[str, Any]:
    """Return the entry of one session in run.json: command, devices, precision, versions, git revision.

    `given` lists what the caller of `train` supplied as objects instead of through the config: "model", "dataset".
    """
    return {
        "command": sys.argv,
        "devices": devices,
        "precision": {
            group: getattr(config, group).precision
            for group in ("training", "evaluation", "sampling")
            if hasattr(config, group)
        }
        | {"parameters": "float32"},
        "deterministic": devices.get("platform") != GPU or config.training.deterministic,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "python": platform.python_version(),
        "versions": versions(),
        "git_revision": git_revision(),
    } | ({"given": list(given)} if given else {})


def inexact_resume(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Explain in one line why a session on GPUs does not resume the previous one bit for bit; None if it does.

    Different kernels, or the same ones in a different order, sum in a different order. Only what both `session_record`s
    contain is compared. A record of an earlier version contains less, and counts as not deterministic.
    """
    there, here = (session.get("devices", {}) for session in (before, now))
    if GPU not in (there.get("platform"), here.get("platform")):
        return None
    packages, packages_here = before.get("versions", {}), now.get("versions", {})

    def other(there: dict[str, Any], here: dict[str, Any], *names: str) -> bool:
        return any(there[name] != here[name] for name in names if name in there and name in here)

    differing = {
        "on another card": other(there, here, "kind"),
        "on another number of devices": other(there, here, "num_devices", "num_processes", "fsdp"),
        "with another jax or CUDA": other(packages, packages_here, "jax", "jaxlib") or other(there, here, "runtime"),
        "with other XLA_FLAGS": other(before, now, "xla_flags"),
        "without training.deterministic": not (before.get("deterministic") and now.get("deterministic")),
    }
    reasons = ", ".join(reason for reason, holds in differing.items() if holds)
    if not reasons:
        return None
    return f"resumed {reasons}: the next steps will not match an uninterrupted run bit for bit"


def write_evaluation(path: Path, numbers: dict[str, Any], data: dict[str, Any], step: int) -> None:
    """Write evaluation.json at the end of training: the numbers (`Evaluation.to_dict()`) and what they refer to."""
    write_json(path / "evaluation.json", numbers | measured(data, step))


def keep_evaluation(path: Path, steps: int) -> None:
    """Before training continues to `steps`, move evaluation.json of fewer steps to evaluations/final_step_1000.json.

    An unreadable file is renamed evaluation.json.bad; training writes a new one.
    """
    try:
        there = read_evaluation(path).get("checkpoint_step")
    except InputError:
        (path / "evaluation.json").rename(path / "evaluation.json.bad")
        return
    if isinstance(there, int) and there < steps:
        (path / "evaluations").mkdir(exist_ok=True)
        (path / "evaluation.json").rename(path / "evaluations" / f"final_step_{there}.json")


def measured(data: dict[str, Any], step: int) -> dict[str, Any]:
    """Describe what an evaluation was computed on; `data` is `DatasetInfo.to_dict()`."""
    return {
        # Class names do not affect the numbers, and notes are in run.json.
        "data": {name: value for name, value in data.items() if name not in ("classes", "notes")},
        "split": "test",
        "checkpoint_step": step,
        "weights": "ema",
    }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a metrics.jsonl, skipping invalid lines (see `parse_metrics`)."""
    return split_metrics(path)[0]


def split_metrics(path: Path) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """Return the records of a metrics.jsonl, and its invalid lines by line number.

    A last line without a newline was cut off by a kill, and is ignored.
    """
    records, bad = [], {}
    lines = read_bytes(path).split(b"\n")[:-1] if os.path.lexists(path) else []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(parse_metrics(line, path))
        except InputError:
            bad[number] = line
    return records, bad


def parse_metrics(line: bytes, where: Path | str) -> dict[str, Any]:
    """Parse a line of metrics.jsonl: "kind", "step" and numbers, which may be NaN, infinite or None.

    Raises `InputError`, prefixed with `where`, for anything else.
    """
    record = parse_json(line, where, finite=False)
    field(record, "kind", str, where)
    field(record, "step", int, where)
    for name, value in record.items():
        if name not in ("kind", "step") and not (value is None or type(value) in (int, float)):
            raise InputError(f"{where}: {shown(name)}: found {found(value)}; must be a number or null")
    return record


def weights_digest(variables: Any) -> str:
    """Hash a model's weights, to distinguish checkpoints of the same step from different training runs."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        found.update(np.asarray(leaf).tobytes())
    return "sha256:" + found.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def git_revision() -> str | None:
    """Return the commit of the source tree (with "-dirty" if modified); None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
