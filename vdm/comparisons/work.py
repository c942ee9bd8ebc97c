"""What comparisons share: one plan of all the work, each run trained once, each measurement made once, records."""

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
"""Trains, or goes on training, the run in a folder on a data set; calls the last with the step after each log line."""

OpenClassifier = Callable[[Dataset, Path | None], Callable[[], Opened]]
"""Of a data set, (dataset, folder) -> what opens the classifier in the folder, or for None the data's own."""


class Programs(NamedTuple):
    """What comparisons have done by the programs above them."""

    train: Train
    classifier: OpenClassifier


class Work:
    """How much of the work is done, in network calls, and how long the rest takes at the pace of this session."""

    def __init__(self, total: int):
        self.total, self.done, self.skipped, self.start = total, 0, 0, time.monotonic()

    def advance(self, cost: int, skip: bool = False) -> None:
        """So many calls are done; with `skip`, in an earlier session."""
        self.done += cost
        self.skipped += cost if skip else 0

    def __str__(self) -> str:
        pace = (self.done - self.skipped) / (time.monotonic() - self.start)
        left = duration((self.total - self.done) / pace) if pace else "unknown time"
        return f"comparison {100 * self.done // self.total}% done, {left} left"


def cost_of_steps(config: RunConfig) -> int:
    """Network calls of a run's training: each step is a forward and a backward pass, three calls an image."""
    return 3 * config.training.steps * config.training.batch_size


def cost_of_training(config: RunConfig, dataset: Dataset) -> int:
    """Network calls of a run with the evaluation at its end."""
    return cost_of_steps(config) + len(dataset.test) * config.evaluation.draws


def train_once(train: Train, config: RunConfig, folder: Path, dataset: Dataset, work: Work, console: Console) -> None:
    """Trains the run in `folder` unless it is done. Raises `InputError` if it belongs to another config or data."""
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
            # Where this session began.
            advance_to(max(step - config.training.log_every, 0), skip=True)
        advance_to(step)
        console.print(str(work), style="cyan")

    train(config, folder, dataset, on_log)
    if work.done == before:
        # All steps were done, and only the run's evaluation was not.
        advance_to(steps, skip=True)
    work.advance(before + cost - work.done)


def open_last(config: RunConfig, folder: Path, mesh: Mesh) -> Run:
    """The end of a run. Raises `InputError` if its newest checkpoint is an earlier one."""
    run = open_run(folder, config=config, mesh=mesh)
    if run.step != config.training.steps:
        raise InputError(f"{folder}: its newest checkpoint is of step {run.step}, not {config.training.steps}")
    return run


def read_measured(path: Path, settings: dict[str, Any], metrics: Iterable[str]) -> dict[str, Any] | None:
    """What `write_measured` wrote there with the same settings and, under "metrics", all of these, else None."""
    wanted = set(metrics)
    several = (_read_whole(path), _read_whole(_aside(path, settings)))
    return next((s for s in several if s.get("settings") == settings and set(s.get("metrics", {})) >= wanted), None)


def write_measured(path: Path, measured: dict[str, Any], settings: dict[str, Any]) -> None:
    """Writes what was measured, as JSON, with the settings that it depends on (as JSON would give them back).

    What was measured there with other settings, maybe for hours, is kept beside it, and `read_measured` finds it.
    """
    there = _read_whole(path).get("settings", settings)
    if there != settings:
        path.rename(_aside(path, there))
    values = {**measured, "settings": settings, "revision": git_revision()}
    write_json(path, values | {"digest": _digest(values)})


def record_of(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """What `write_measured` is given of estimates by the names of their metrics; `estimate_of` reads them back."""
    return {"metrics": {name: {"value": e.value, "without": e.without.tolist()} for name, e in estimates.items()}}


def estimate_of(measured: dict[str, Any], name: str, path: Path) -> Estimate:
    """What a metric said, in the record of `path`. Raises `InputError` if there is no such thing."""
    without = field(measured, ("metrics", name, "without"), tuple[float, ...], path)
    return Estimate(field(measured, ("metrics", name, "value"), float, path), np.array(without))


def _read_whole(path: Path) -> dict[str, Any]:
    """The record in a file; {} if there is none, or it is damaged: its digest is that of another."""
    try:
        saved = read_json(path, {})
        digest = field(saved, "digest", str | None, path, None)
        field(saved, "metrics", dict, path, {})
        sampling = field(saved, "settings.sampling", dict, path, {})
    except InputError:
        return {}
    # Earlier ones have none.
    if digest not in (None, _digest(saved)):
        return {}
    # Nor do they say what samples were computed in, and how they were led to which labels.
    unsaid = {**UNSAID, "labels": None, "guidance_batch": "auto"}
    return saved | {"settings": saved["settings"] | {"sampling": unsaid | sampling}} if sampling else saved


def _aside(path: Path, settings: Any) -> Path:
    """NAME.1f2e3d4c.json: where a record of these settings is kept when another takes its place."""
    return path.with_name(f"{path.stem}.{_digest({'settings': settings}).removeprefix('sha256:')[:8]}{path.suffix}")


def _digest(values: dict[str, Any]) -> str:
    """Of all that is in a record but its digest."""
    text = json.dumps({name: value for name, value in values.items() if name != "digest"}, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(config: Config, settings: Any, dataset: Dataset, mesh: Mesh) -> dict[str, Any]:
    """What a comparison's record says of where it comes from: config, settings, data, and the session that wrote it."""
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
    """The texts joined by hyphens, of each only letters, digits, dots and minus signs."""
    return "-".join(re.sub(r"[^\w.-]+", "_", text).strip("_") for text in texts)
