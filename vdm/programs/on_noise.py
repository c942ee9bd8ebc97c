"""What `train_classifier` and `train_clip` share: training another network on the noisy images of a run."""

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
"""Fields of `config.data` that a run reads from its data; for another task they are read anew."""


class Source(NamedTuple):
    """The run whose noise another network is trained on, and where that training goes."""

    run: Run
    """The run with the data of the new config in place of its own."""
    own: Run
    """The run as it is."""
    folder: Path
    console: Console
    given: list[str]
    """What the caller passed in place of the config's, for run.json."""


def source_of(
    path: Path,
    config: Any,
    folder: Path,
    checkpoint: str | int,
    dataset: Dataset | None,
    model: Model | None,
    console: Console | None,
) -> Source:
    """Open the run in `path` for another task on its noise; nothing is written.

    Raises `InputError` for a bad config, a folder that cannot be written, and if there is no such run.
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
    """Return the config of the run in `path`, and its data config with what another task reads anew left open.

    Raises `InputError` if there is no run.
    """
    of_run = read_config(path)
    return of_run, replace(of_run.data, entries=None, classes=None, vocabulary=None)


def check_noise(of: OfConfig, noise: OfConfig, where: str) -> None:
    """Raise `InputError` for a config that asks for other noise than the run's; `where` names the noise's origin."""
    given, differing = (settings.differing(of, other, "model") for other in (OfConfig(), noise))
    for name in given.keys() & differing.keys():
        here, there = differing[name]
        raise InputError(f"config.of.{name}={here!r}: must be {there!r}, as {where} has it")


def noise_of(source: Run) -> OfConfig:
    """Return the `config.of` that records a run's noise: its name and step, its schedule and the end points of γ."""
    low, high = (round(float(gamma), 3) for gamma in gamma_of(source)(jnp.asarray([0.0, 1.0])))
    digest = weights_digest(parallel.to_host(source.variables["schedule"]))
    name = parts.canonical("schedule", source.config.schedule.name)
    return OfConfig(source.name, source.step, f"{name} {digest}", low, high)


def gamma_of(source: Run) -> Schedule:
    """Return t -> γ(t) of the run's averaged variables, held fixed."""
    return partial(source.model.schedule.gamma, parallel.to_host(source.variables["schedule"]))


class Evaluation:
    """A `Task.evaluate` for networks trained on noisy images; its evaluator is made once."""

    def __init__(self, make: Callable[[Mesh, int], Any]):
        """`make` is (mesh, images per call) -> evaluator."""
        self._make = make
        self._evaluator: Any = None

    def __call__(self, session: Session, kind: str, num_draws: int, max_images: int) -> Any:
        session.heed()
        if self._evaluator is None:
            self._evaluator = self._make(session.mesh, session.config.evaluation.batch_size)
        key, images = session.key(Stream.EVALUATION), session.dataset.test
        with heeding_progress(session, "final evaluation" if kind == "final" else "evaluating") as progress:
            result = self._evaluator(session.variables, images, key, num_draws, max_images, progress)
        # Only numbers from the same images are comparable; no version is needed where all images were evaluated.
        session.record(kind, **result.numbers, **({} if result.of_all else {"sample": VERSION}))
        final = "final " if kind == "final" else ""
        line = f"step {session.step}  {final}test {result} ({extent(result, len(images))})"
        session.console.print(line, style="bold", soft_wrap=True)
        session.evaluation = result
        return result


class PlotByNoise(Plot):
    """Draws the loss so far and a figure by γ into plots/, after each evaluation."""

    def __init__(self, title: str, name: str, draw: Callable[[Path, Any], None]):
        """`title` is that of the loss; `draw`, (path, evaluation) -> None, draws the figure `name` by γ."""
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
    """Return the default hooks: log, evaluate, plot, save."""
    return [Log(), Evaluate(), plot, Save()]
