"""What a run says of itself: config.json, run.json, metrics.jsonl, evaluation.json."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vdm.config import Config, from_dict, validate
from vdm.errors import InputError
from vdm.evaluation import PRECISION
from vdm.files import replace_text, write_json
from vdm.reading import field, found, parse_json, read_json, shown

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


def read_config(path: Path) -> Config:
    """The config of the run in `path`, with its parts imported.

    Raises `InputError` if there is none to be read, or no run could have it.
    """
    where = path / "config.json"
    values = read_json(where, {})
    if not values and not where.exists():
        raise InputError(f"{path}: has no config.json, so no run; train.py makes one")
    config = from_dict(values, f"{where}: ")
    try:
        validate(config)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('config.')}") from error
    return config


def read_record(path: Path) -> dict[str, Any]:
    """run.json of the run in `path`, {} if there is none: of what is used of it, each is of its type.

    Raises `InputError` for another.
    """
    where = path / "run.json"
    record = read_json(where, {})
    field(record, "data", dict, where, {})
    field(record, "data.name", str | None, where, None)
    for k, session in enumerate(field(record, "sessions", tuple[dict, ...], where, ())):
        field(session, "given", tuple[str, ...], f"{where}: sessions.{k}", ())
    return record


def read_evaluation(path: Path) -> dict[str, Any]:
    """evaluation.json of the run in `path`, {} if there is none."""
    return read_json(path / "evaluation.json", {})


def session_record(config: Config, devices: dict[str, Any], given: Sequence[str] = ()) -> dict[str, Any]:
    """What run.json says of one session: command, devices, precision, versions, git revision.

    `given` names what the caller of `train` made and the config does not: "model", "dataset".
    """
    return {
        "command": sys.argv,
        "devices": devices,
        "precision": {
            "training": config.network.dtype,
            "matrix_products": jax.config.values["jax_default_matmul_precision"] or "default",
            "parameters": "float32",
        },
        "python": platform.python_version(),
        "versions": versions(),
        "git_revision": git_revision(),
    } | ({"given": list(given)} if given else {})


def write_evaluation(
    path: Path,
    numbers: dict[str, Any],
    data: dict[str, Any],
    step: int,
    name: str = "evaluation.json",
    plan: dict[str, Any] | None = None,
) -> None:
    """evaluation.json: the numbers (`Evaluation.to_dict()`), what they are of, and the plan of the draws if any."""
    write_json(path / name, numbers | measured(data, step) | ({} if plan is None else {"plan": plan}))


def measured(data: dict[str, Any], step: int) -> dict[str, Any]:
    """What the numbers of an evaluation are numbers of; `data` is `DatasetInfo.to_dict()`."""
    return {
        # Numbers are the same whatever labels are called, and notes are in run.json.
        "data": {name: value for name, value in data.items() if name not in ("classes", "notes")},
        "split": "test",
        "precision": f"float32 ({PRECISION})",
        "checkpoint_step": step,
        "weights": "ema",
    }


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


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a kill is left out."""
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            records.append(parse_metrics(line, path))
        except InputError:
            break
    return records


def parse_metrics(line: bytes, where: Path | str) -> dict[str, Any]:
    """The record in a line of metrics.jsonl: "kind", "step" and numbers, which may be NaN, infinite or None.

    Raises `InputError`, about `where`, for anything else.
    """
    record = parse_json(line, where, finite=False)
    field(record, "kind", str, where)
    field(record, "step", int, where)
    for name, value in record.items():
        if name not in ("kind", "step") and not (value is None or type(value) in (int, float)):
            raise InputError(f"{where}: {shown(name)}: found {found(value)}; must be a number or null")
    return record


def weights_digest(variables: Any) -> str:
    """Tells the weights of checkpoints apart: a model trained anew to the same step has others."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        found.update(np.asarray(leaf).tobytes())
    return "sha256:" + found.hexdigest()[:16]


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
