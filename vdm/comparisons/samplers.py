"""compare.py --by=sampler: one trained model, every sampler at every number of network calls, and how good it is."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from vdm import plots, samplers
from vdm.comparisons.sampler_tables import (
    STDERRS,
    SamplerOutcome,
    by_sampler,
    calls_markdown,
    calls_needed,
    noises_markdown,
)
from vdm.comparisons.work import Work, file_name, provenance, read_measured, write_measured
from vdm.config import Config, SamplingConfig, validate
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler, with_steps_of
from vdm.evaluation.metrics.mmd import Quality
from vdm.files import replace_text, write_json
from vdm.keys import Stream, stream_key
from vdm.programs.progress import progress_of
from vdm.runs.folder import lock
from vdm.runs.open import Run, open_run
from vdm.runs.records import weights_digest

REFERENCE = "ancestral"


class Cell(NamedTuple):
    """One number of the tables."""

    sampler: str
    """As the config has it, with its grid if it names one."""
    steps: int
    calls: int
    """Network calls an image."""


def compare_samplers(config: Config, run: Path, workdir: Path, checkpoint: str, console: Console) -> str:
    """Measures what is not measured yet of a checkpoint of the run in `run`; returns the Markdown tables.

    WORKDIR/cells/ has a file for each sampler and number of steps; samplers.json, samplers.md and samplers.png are made
    of them, after each. Raises `InputError` for bad input.
    """
    validate(config)
    if config.comparison.samples < 3:
        raise InputError(f"config.comparison.samples={config.comparison.samples}: must be 3 or more, for an error")
    # Before the data and the checkpoint are read, and hours of the cheaper ones.
    wanted = cells(config)
    for cell in wanted:
        settings, model_steps = sampling_of(config, cell), config.objective.num_steps
        if with_steps_of(settings, model_steps) != settings:
            raise InputError(
                f"config.comparison: {cell.sampler} of {cell.steps} steps, but the model has {model_steps}; calls, "
                f"noise_steps and reference_calls must be at most {model_steps} on grids of its own steps"
            )
    trained = open_run(run, checkpoint, config=config)
    quality = Quality(trained.dataset.train, trained.dataset.info.levels)
    with lock(workdir):
        return _Samplers(trained, quality, workdir, console).run(wanted)


def cells(config: Config) -> list[Cell]:
    """What is to be measured, each once, the cheapest first."""
    c = config.comparison
    texts = (*c.samplers, *c.noises, REFERENCE)
    calls = {text: samplers.parse(samplers.parse_on_grid(text)[0]).calls for text in texts}
    pairs = {(text, num // calls[text]) for text in c.samplers for num in c.calls}
    pairs |= {(text, steps) for text in c.noises for steps in c.noise_steps}
    pairs.add((REFERENCE, c.reference_calls))
    found = [Cell(text, steps, steps * calls[text]) for text, steps in pairs if steps]
    return sorted(found, key=lambda cell: (cell.calls, texts.index(cell.sampler), cell.steps))


def sampling_of(config: Config, cell: Cell) -> SamplingConfig:
    """The settings that a cell's images are drawn with."""
    sampler, grid = samplers.parse_on_grid(cell.sampler, config.sampling.grid)
    return replace(config.sampling, num=config.comparison.samples, steps=cell.steps, sampler=sampler, grid=grid)


class _Samplers:
    def __init__(self, trained: Run, quality: Quality, workdir: Path, console: Console):
        self.trained, self.config, self.workdir, self.console = trained, trained.config, workdir, console
        self.samples = self.config.comparison.samples
        self.quality, self.floor = quality, quality.noise(self.samples)
        self.weights = weights_digest(trained.variables)

    def run(self, wanted: list[Cell]) -> str:
        (self.workdir / "cells").mkdir(exist_ok=True)
        work = Work(self.samples * sum(cell.calls for cell in wanted))
        outcomes: list[SamplerOutcome] = []
        table = ""
        for cell in wanted:
            path = self.workdir / "cells" / f"{file_name(cell.sampler, str(cell.steps))}.json"
            measured = read_measured(path, self._settings(cell))
            work.advance(self.samples * cell.calls, skip=measured is not None)
            if measured is None:
                measured = self._measure(cell)
                write_measured(path, measured, self._settings(cell))
            outcomes.append(SamplerOutcome(*cell, measured["mmd"], np.array(measured["without"])))
            self.console.print(
                f"{cell.sampler}, {cell.calls} calls: MMD² {outcomes[-1].mmd:.2e} ± {outcomes[-1].stderr:.1e}; {work}",
                style="bold",
            )
            table = self._write(outcomes)
        self.console.print(f"wrote samplers.json, samplers.md and samplers.png to {self.workdir}/", soft_wrap=True)
        return table

    def _settings(self, cell: Cell) -> dict[str, Any]:
        """All that the cell's numbers depend on."""
        return {
            "sampling": asdict(sampling_of(self.config, cell)),
            "seed": self.config.seed,
            "weights": self.weights,
            "data": self.trained.dataset.info.to_dict(),
        }

    def _measure(self, cell: Cell) -> dict[str, Any]:
        """MMD² of the images of one sampler; every sampler has the same key, and so the same z₁."""
        sampler = ImageSampler(self.trained.model, self.trained.mesh, sampling_of(self.config, cell))
        key = stream_key(self.config.seed, Stream.SAMPLING)
        with progress_of(self.console, f"{cell.sampler}, {cell.calls} calls") as progress:
            images, _ = sampler(self.trained.variables, key, self.samples, progress)
        estimate = self.quality.estimate(images)
        return {"mmd": estimate.mmd, "without": estimate.without.tolist()}

    def _write(self, outcomes: list[SamplerOutcome]) -> str:
        c = self.config.comparison
        reference = next((o for o in outcomes if (o.sampler, o.calls) == (REFERENCE, c.reference_calls)), None)
        groups = by_sampler(outcomes)
        calls_per_step = {sampler: members[0].calls // members[0].steps for sampler, members in groups.items()}
        rows = [sampler for sampler in dict.fromkeys((*c.samplers, REFERENCE)) if sampler in groups]
        columns = sorted({*c.calls, c.reference_calls})
        table = noises_markdown(outcomes, c.noises, c.noise_steps, self.floor)
        table += "\n\n" + calls_markdown(outcomes, rows, columns, calls_per_step, reference, self.floor)
        if reference is not None:
            table += "\n\nLast column: the fewest calls from which on MMD² is at most "
            table += f"{STDERRS:g} standard errors of the paired difference above {REFERENCE} at {reference.calls}."
        record = {
            "outcomes": [
                {"sampler": o.sampler, "steps": o.steps, "calls": o.calls, "mmd": o.mmd, "stderr": o.stderr}
                for o in outcomes
            ],
            "calls_needed": {
                sampler: None if reference is None else calls_needed(members, reference)
                for sampler, members in groups.items()
            },
            "noise_floor_of_mmd": self.floor,
            "checkpoint_step": self.trained.step,
            "run": str(self.trained.path),
        } | provenance(self.config, self.trained.dataset, self.trained.mesh)
        write_json(self.workdir / "samplers.json", record)
        replace_text(self.workdir / "samplers.md", table + "\n")
        drawn = [o for o in outcomes if o.sampler in rows]
        if drawn:
            plots.quality(self.workdir / "samplers.png", drawn, reference, self.floor)
        return table
