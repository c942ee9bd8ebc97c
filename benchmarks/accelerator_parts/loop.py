"""`vdm train` beside the bare step: the cost of input, logging and checkpoints."""

import itertools
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import train_step
from rich.console import Console

from accelerator_parts import steps
from accelerator_parts.cases import config_of, in_precision
from accelerator_parts.figures import Figures
from vdm.config import Config, DataConfig
from vdm.programs.hooks import Log, Save, every
from vdm.programs.session import Session
from vdm.programs.train import train

RUN = "run"
"""Folder of the run of `cifar10`, which later parts evaluate."""


def cifar10(figures: Figures) -> None:
    """Train the CIFAR-10 network in bfloat16 on the package's photographs for a few hundred steps."""
    config = config_of("cifar10", "bfloat16", figures.small)
    config.data = DataConfig(name="digits" if figures.small else "photos32", num_workers=config.data.num_workers)
    config.evaluation = replace(config.evaluation, batch_size=250, draws=1)
    figures.add(**run(config, figures.folder / RUN, *((2, 4) if figures.small else (40, 9))))


def digits(figures: Figures) -> None:
    """Train the default config, whose short steps expose the loop's own time, and time the bare step beside it."""
    config = in_precision(train_step.digits(), "tf32")
    if figures.small:
        config.network.channels, config.network.depth, config.training.batch_size = 8, 1, 8
    figures.add(**run(config, figures.folder / "digits", *((5, 4) if figures.small else (100, 9))))
    config.data.shape, config.data.levels = (8, 8, 1), 17
    bare = steps.timed(train_step.compile_step(config), 10 if figures.small else 200)
    figures.add(bare_step_seconds=bare["queued_step_seconds"])


def run(config: Config, workdir: Path, window: int, num_windows: int) -> dict[str, Any]:
    """Return the seconds per step that a user of a run experiences: in the median window, and with a checkpoint.

    Every third window ends with a checkpoint.
    """
    checkpoint_every = 3 * window
    training = replace(
        config.training,
        steps=window * num_windows,
        log_every=window,
        evaluate_every=0,
        sample_every=0,
        checkpoint_every=checkpoint_every,
    )
    stamps = []

    def stamp(session: Session) -> None:
        stamps.append((session.step, time.perf_counter()))

    begin = time.perf_counter()
    with (workdir.parent / f"{workdir.name}.log").open("w") as log:
        hooks = [every(window, stamp), Log(), Save()]
        train(replace(config, training=training), workdir, hooks=hooks, console=Console(file=log))
    windows = [(step, (later - earlier) / window) for (_, earlier), (step, later) in itertools.pairwise(stamps)]
    # The time stamp is the first hook, so the time of a checkpoint falls into the next window.
    with_one = [seconds for step, seconds in windows if (step - window) % checkpoint_every == 0]
    without = [seconds for step, seconds in windows if (step - window) % checkpoint_every]
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = [record["images_per_second"] for record in records if record["kind"] == "train"]
    return {
        "batch_size": training.batch_size,
        "step_seconds": statistics.median(without),
        "step_seconds_range": [min(without), max(without)],
        "checkpoint_seconds": window * (statistics.median(with_one) - statistics.median(without)),
        "images_per_second": training.batch_size / statistics.median(without),
        "logged_images_per_second": statistics.median(logged[1:]),
        "all_seconds": time.perf_counter() - begin,
    }
