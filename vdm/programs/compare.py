"""compare.py: runs or samplers side by side, by one of the modes of `vdm.comparisons`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from vdm.comparisons.modes import Mode
from vdm.config import Config
from vdm.data import Dataset
from vdm.programs.hooks import every, standard
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
    """Does what is not done yet of a comparison, and returns its Markdown tables.

    `run` and `checkpoint` are for a mode of a trained run alone. Raises `InputError` for bad input.
    """
    if mode.of_a_run is not None:
        return mode.compare(config, settings, workdir, console, run, checkpoint)

    def train_one(config: Config, folder: Path, dataset: Dataset, on_log: Callable[[int], None]) -> None:
        log, *others = standard()
        of_work = every(config.training.log_every, lambda session: on_log(session.step))
        train(config, folder, dataset, hooks=[log, of_work, *others], console=console)

    return mode.compare(config, settings, workdir, console, train_one)
