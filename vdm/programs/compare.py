"""`vdm compare`: compare runs, or what one run does, by one of the modes of `vdm.comparisons`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from vdm.comparisons.modes import Mode
from vdm.comparisons.work import Programs
from vdm.config import Config
from vdm.data import Dataset
from vdm.evaluation.metrics.extractors.classifier import Opened
from vdm.files import cache_folder
from vdm.programs import judges, kinds
from vdm.programs.hooks import every
from vdm.programs.train import train


def compare(
    mode: Mode,
    config: Config,
    settings: Any,
    workdir: Path,
    console: Console,
    run: Path | None = None,
    checkpoint: str = "latest",
) -> str:
    """Do the parts of a comparison that are not done yet, and return its Markdown tables.

    `run` and `checkpoint` are only for modes that compare what one trained run does. Raises `InputError` for bad input.
    """

    def train_one(config: Any, folder: Path, dataset: Dataset, on_log: Callable[[int], None]) -> None:
        log, *others = kinds.of(config).hooks()
        of_work = every(config.training.log_every, lambda session: on_log(session.step))
        train(config, folder, dataset, hooks=[log, of_work, *others], console=console)

    def classifier(dataset: Dataset, folder: Path | None) -> Callable[[], Opened]:
        return judges.opener(dataset, folder, cache_folder(judges.CACHE), console)

    of_a_run = () if mode.of_a_run is None else (run, checkpoint)
    return mode.compare(config, settings, workdir, console, Programs(train_one, classifier), *of_a_run)
