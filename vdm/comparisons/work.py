"""Shared parts of comparisons: progress over all the work, training each run once, and records of measurements."""

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from vdm import parallel
from vdm.config import Config, RunConfig, to_dict
from vdm.data import Dataset
from vdm.errors import InputError
from vdm.evaluation.metrics import Estimate
from vdm.evaluation.metrics.extractors.classifier import Opened
from vdm.files import write_json
from vdm.progress import duration
from vdm.reading import field, read_json
from vdm.runs.folder import check_same, check_same_data
from vdm.runs.open import Run, open_run
from vdm.runs.records import git_revision, read_config, read_evaluation, read_record, versions
from vdm.runs.shards import UNSAID

Train = Callable[[Any, Path, Dataset, Callable[[int], None]], object]
"""Trains or continues the run in a folder: (config, folder, dataset, callback); each log line calls callback(step)."""

OpenClassifier = Callable[[Dataset, Path | None], Callable[[], Opened]]
"""(dataset, folder) -> a function that opens the classifier in the folder, or the data set's own for None."""


class Programs(NamedTuple):
    """The programs that comparisons call, passed down to them because they are implemented in a higher layer."""

    train: Train
    classifier: OpenClassifier


class Work:
    """Track how much of the work is done, in network calls, and estimate the remaining time at this session's pace."""

    def __init__(self, total: int):
        self.total, self.done, self.skipped, self.start = total, 0, 0, time.monotonic()

    def advance(self, cost: int, skip: bool = False) -> None:
        """Count `cost` calls as done; with `skip`, as done in an earlier session."""
        self.done += cost
        self.skipped += cost if skip else 0

    def __str__(self) -> str:
        pace = (self.done - self.skipped) / (time.monotonic() - self.start)
        left = duration((self.total - self.done) / pace) if pace else "unknown time"
        return f"comparison {100 * self.done // self.total}% done, {left} left"


def cost_of_steps(config: RunConfig) -> int:
    """Return the cost of a run's training steps in network calls: three per image, for forward and backward passes."""
    return 3 * config.training.steps * config.training.batch_size


def cost_of_training(config: RunConfig, dataset: Dataset) -> int:
    """Return the cost of training a run and evaluating it at the end, in network calls."""
    return cost_of_steps(config) + len(dataset.test) * config.evaluation.draws


def train_once(train: Train, config: RunConfig, folder: Path, dataset: Dataset, work: Work, console: Console) -> None:
    """Train the run in `folder` unless it is complete. Raises `InputError` if it has a different config or data."""
    cost, steps = cost_of_training(config, dataset), config.training.steps
    before = work.done
    if read_evaluation(folder).get("checkpoint_step") == steps:
        check_same_data(read_record(folder), dataset.info.to_dict(), folder)
        check_same(read_config(folder, type(config)), config, folder)
        work.advance(cost, skip=True)
        return
    console.rule(f"training {folder.name}: {work}")

    def advance_to(step: int, skip: bool = False) -> None:
        work.advance(before + cost_of_steps(config) * step // steps - work.done, skip)

    def on_log(step: int) -> None:
        if work.done == before:
            # This session started at the previous log line.
            advance_to(max(step - config.training.log_every, 0), skip=True)
        advance_to(step)
        console.print(str(work), style="cyan")

    train(config, folder, dataset, on_log)
    if work.done == before:
        # Training was already complete; only the final evaluation was missing.
        advance_to(steps, skip=True)
    work.advance(before + cost - work.done)


def open_last(config: RunConfig, folder: Path, mesh: Mesh) -> Run:
    """Open the final checkpoint of a run. Raises `InputError` if its newest checkpoint is an earlier one."""
    run = open_run(folder, config=config, mesh=mesh)
    if run.step != config.training.steps:
        raise InputError(f"{folder}: its newest checkpoint is of step {run.step}, not {config.training.steps}")
    return run


def read_measured(path: Path, settings: dict[str, Any], metrics: Iterable[str]) -> dict[str, Any] | None:
    """Return what `write_measured` saved with equal settings and at least these "metrics"; None if there is none."""
    wanted = set(metrics)
    several = (_read_whole(path), _read_whole(_aside(path, settings)))
    return next((s for s in several if s.get("settings") == settings and set(s.get("metrics", {})) >= wanted), None)


def write_measured(path: Path, measured: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write measurements as JSON, with the settings that they depend on (in the types that JSON returns).

    A previous result with other settings may have taken hours: it is kept in another file, where `read_measured` finds
    it.
    """
    there = _read_whole(path).get("settings", settings)
    if there != settings:
        path.rename(_aside(path, there))
    values = {**measured, "settings": settings, "revision": git_revision()}
    write_json(path, values | {"digest": _digest(values)})


def record_of(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Convert estimates, by metric name, to the record that `write_measured` expects; `estimate_of` reverses it."""
    return {"metrics": {name: {"value": e.value, "without": e.without.tolist()} for name, e in estimates.items()}}


def estimate_of(measured: dict[str, Any], name: str, path: Path) -> Estimate:
    """Return a metric's estimate from the record read from `path`. Raises `InputError` if it is missing or invalid."""
    without = field(measured, ("metrics", name, "without"), tuple[float, ...], path)
    return Estimate(field(measured, ("metrics", name, "value"), float, path), np.array(without))


def _read_whole(path: Path) -> dict[str, Any]:
    """Read a record; {} if it is missing or damaged, which its digest reveals."""
    try:
        saved = read_json(path, {})
        digest = field(saved, "digest", str | None, path, None)
        field(saved, "metrics", dict, path, {})
        sampling = field(saved, "settings.sampling", dict, path, {})
    except InputError:
        return {}
    # Records of earlier versions have no digest.
    if digest not in (None, _digest(saved)):
        return {}
    # Nor do they state the precision, guidance and labels of their samples.
    unsaid = {**UNSAID, "labels": None, "guidance_batch": "auto"}
    return saved | {"settings": saved["settings"] | {"sampling": unsaid | sampling}} if sampling else saved


def _aside(path: Path, settings: Any) -> Path:
    """Return NAME.1f2e3d4c.json, the file that keeps a record with these settings when another replaces it."""
    return path.with_name(f"{path.stem}.{_digest({'settings': settings}).removeprefix('sha256:')[:8]}{path.suffix}")


def _digest(values: dict[str, Any]) -> str:
    """Hash everything in a record except its digest."""
    text = json.dumps({name: value for name, value in values.items() if name != "digest"}, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(config: Config, settings: Any, dataset: Dataset, mesh: Mesh) -> dict[str, Any]:
    """Describe the origin of a comparison's record: config, settings, data, and the session that wrote it."""
    return {
        "config": to_dict(config),
        "comparison": asdict(settings),
        "data": dataset.info.to_dict(),
        "last_session": {
            "command": sys.argv,
            "devices": parallel.describe(mesh),
            "versions": versions(),
            "git_revision": git_revision(),
        },
    }


def file_name(*texts: str) -> str:
    """Join texts by hyphens, replacing all but letters, digits, underscores, dots and minus signs by underscores."""
    return "-".join(re.sub(r"[^\w.-]+", "_", text).strip("_") for text in texts)
