"""What training a classifier and an image–text model on the noisy images of a run have in common."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh
from rich.console import Console

from vdm import parallel, parts, plots, settings
from vdm.config import validate
from vdm.data import Dataset
from vdm.data.selection import VERSION
from vdm.errors import InputError
from vdm.files import check_writable
from vdm.keys import Stream
from vdm.model import Model
from vdm.noisy import OfConfig, Schedule
from vdm.programs import streams
from vdm.programs.hooks import Evaluate, Hook, Log, Plot, Save, extent, heeding_progress
from vdm.programs.session import Session
from vdm.runs import trackers
from vdm.runs.open import Run, open_run
from vdm.runs.records import read_config, read_metrics, weights_digest

READ = ("shape", "levels", "entries", "classes", "vocabulary")
"""Fields of `config.data` that a run has read from its data: those of another task are its own."""


class Source(NamedTuple):
    """The run on whose noise something is trained, and where that goes."""

    run: Run
    """With the data of the config in place of its own."""
    own: Run
    """As it is."""
    folder: Path
    console: Console
    given: list[str]
    """What the caller made, for the record."""


def source_of(
    path: Path,
    config: Any,
    folder: Path,
    checkpoint: str | int,
    dataset: Dataset | None,
    model: Model | None,
    console: Console | None,
) -> Source:
    """The run in `path`, for a config of another task on its noise; nothing is written.

    Raises `InputError` for a bad config, a folder that cannot be written, and where there is no such run.
    """
    validate(config)
    console = streams.make_console(quiet=not parallel.is_main()) if console is None else console
    parallel.on_main(lambda: check_writable(folder, "--workdir"))
    trackers.check(config.training.loggers)
    of_run = read_config(path)
    own = open_run(path, checkpoint, kind=type(of_run), dataset=dataset, model=model)
    kept = {name: getattr(of_run.data, name) for name in READ}
    run = replace(own, config=replace(of_run, data=replace(config.data, **kept)))
    given = [] if dataset is None or dataset.info.name != config.data.name else ["dataset"]
    return Source(run, own, folder, console, given)


def data_of(path: Path) -> tuple[Any, Any]:
    """(the config of the run in `path`, its data as another task on it begins with them).

    Raises `InputError` if there is no run.
    """
    of_run = read_config(path)
    return of_run, replace(of_run.data, entries=None, classes=None, vocabulary=None)


def check_noise(of: OfConfig, noise: OfConfig, where: str) -> None:
    """Raises `InputError` for a config that asks for other noise than there is; `where` says where that is from."""
    given, differing = (settings.differing(of, other, "model") for other in (OfConfig(), noise))
    for name in given.keys() & differing.keys():
        here, there = differing[name]
        raise InputError(f"config.of.{name}={here!r}: must be {there!r}, as {where} has it")


def noise_of(source: Run) -> OfConfig:
    """What is recorded of the run on whose noise something is trained."""
    low, high = (round(float(gamma), 3) for gamma in gamma_of(source)(jnp.asarray([0.0, 1.0])))
    digest = weights_digest(parallel.to_host(source.variables["schedule"]))
    name = parts.canonical("schedule", source.config.schedule.name)
    return OfConfig(source.name, source.step, f"{name} {digest}", low, high)


def gamma_of(source: Run) -> Schedule:
    """t -> γ(t) of the run's averaged variables, held fixed."""
    return partial(source.model.schedule.gamma, parallel.to_host(source.variables["schedule"]))


class Evaluation:
    """The `Task.evaluate` of what is trained on noise, compiled once."""

    def __init__(self, make: Callable[[Mesh, int], Any]):
        """`make` is (mesh, images a call) -> evaluator."""
        self._make = make
        self._evaluator: Any = None

    def __call__(self, session: Session, kind: str, num_draws: int, max_images: int) -> Any:
        session.heed()
        if self._evaluator is None:
            self._evaluator = self._make(session.mesh, session.config.evaluation.batch_size)
        key, images = session.key(Stream.EVALUATION), session.dataset.test
        with heeding_progress(session, "final evaluation" if kind == "final" else "evaluating") as progress:
            result = self._evaluator(session.variables, images, key, num_draws, max_images, progress)
        # Of all images, nothing: only numbers of the same images compare.
        session.record(kind, **result.numbers, **({} if result.of_all else {"sample": VERSION}))
        final = "final " if kind == "final" else ""
        line = f"step {session.step}  {final}test {result} ({extent(result, len(images))})"
        session.console.print(line, style="bold", soft_wrap=True)
        session.evaluation = result
        return result


class PlotByNoise(Plot):
    """plots/: the loss so far, and a figure by γ, after each evaluation."""

    def __init__(self, title: str, name: str, draw: Callable[[Path, Any], None]):
        """The loss's title; the figure's name, and what draws it: (path, evaluation) -> None."""
        self._title, self._name, self._draw = title, name, draw

    def __call__(self, session: Session) -> None:
        result = session.evaluation
        if not session.is_main or result is None:
            return
        folder, records = session.path / "plots", read_metrics(session.path / "metrics.jsonl")
        objective = session.task.objective
        plots.loss(folder / "loss.png", records, objective.total, objective.unit, self._title)
        self._draw(folder / f"{self._name}.png", result)
        session.show(self._name, folder / f"{self._name}.png")


def standard(plot: PlotByNoise) -> list[Hook]:
    """What is done beside the steps: log, evaluate, plot, save."""
    return [Log(), Evaluate(), plot, Save()]
