"""compare.py --by=sampler: one trained model, every sampler at every number of network calls, and how good it is."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from vdm import parts, plots
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
from vdm.keys import Stream, stream_key
from vdm.programs.evaluate import Evaluate
from vdm.programs.progress import progress_of
from vdm.runs.folder import lock, replace_text, weights_digest, write_json
from vdm.settings import Limit, at_least, check, increasing_steps, setting, steps

REFERENCE = "ancestral"


class Cell(NamedTuple):
    """One number of the tables."""

    sampler: str
    """As the config has it, with its grid if it names one."""
    steps: int
    calls: int
    """Network calls an image."""


def on_grid(text: str, grid: str = "schedule") -> tuple[str, str]:
    """("heun", "karras") of "heun@karras": a sampler and its grid; without an @ the grid is the one given.

    Raises ValueError for what `vdm.parts` refuses.
    """
    sampler, at, named = text.partition("@")
    parts.check("sampler", sampler)
    parts.check("grid", named if at else grid)
    return sampler, named if at else grid


def samplers_on_grids() -> Limit:
    """A tuple of samplers, each as SAMPLER or SAMPLER@GRID."""

    def problem(texts: tuple[str, ...]) -> str | None:
        try:
            for text in texts:
                on_grid(text)
        except parts.PartError as error:
            return str(error)
        return None

    return Limit(problem, lambda: "each SAMPLER or SAMPLER@GRID")


@dataclass
class SamplersSettings:
    """compare.py --by=sampler: samplers on one trained model."""

    samplers: tuple[str, ...] = setting(
        (
            "ancestral", "ddpm(large)", "ddim(0)", "heun", "dpm_solver_pp(2)", "dpm_solver_pp(3)",
            "dpm_solver_pp(2, True)", "unipc", "predictor_corrector", "heun@karras", "dpm_solver_pp(2)@uniform",
            "dpm_solver_pp(2)@karras",
        ),
        "Samplers, with a grid where that is not the one of `sampling`.",
        samplers_on_grids(),
    )  # fmt: skip
    calls: tuple[int, ...] = setting(
        (5, 10, 20, 50, 100),
        "Network calls an image that they are given; a sampler of two calls a step takes half the steps.",
        increasing_steps(),
    )
    reference_calls: int = setting(1000, "Calls of `ancestral` whose quality the others are to reach.", steps())
    noises: tuple[str, ...] = setting(
        ("ddim(0)", "ddim(0.2)", "ddim(0.5)", "ddim(1)", "ddpm(large)"),
        "Samplers for a table of their own, by how much noise a step draws.",
        samplers_on_grids(),
    )
    noise_steps: tuple[int, ...] = setting((10, 20, 50, 1000), "The steps in that table.", increasing_steps())
    samples: int = setting(1000, "Images drawn from each, with the settings of `sampling`.", at_least(3))


def compare_samplers(
    config: Config, comparison: SamplersSettings, run: Path, workdir: Path, checkpoint: str, console: Console
) -> str:
    """Measures what is not measured yet of a checkpoint of the run in `run`; returns the Markdown tables.

    WORKDIR/cells/ has a file for each sampler and number of steps; samplers.json, samplers.md and samplers.png are made
    of them, after each. Raises `InputError` for bad input.
    """
    validate(config)
    check(comparison, "comparison")
    # Before the data and the checkpoint are read, and hours of the cheaper ones.
    wanted = cells(comparison)
    for cell in wanted:
        settings, model_steps = sampling_of(config, comparison, cell), config.objective.num_steps
        if with_steps_of(settings, model_steps) != settings:
            raise InputError(
                f"comparison: {cell.sampler} of {cell.steps} steps, but the model has {model_steps}; calls, "
                f"noise_steps and reference_calls must be at most {model_steps} on grids of its own steps"
            )
    trained = Evaluate(config, run, checkpoint, console)
    with lock(workdir):
        return _Samplers(trained, comparison, workdir, console).run(wanted)


def cells(c: SamplersSettings) -> list[Cell]:
    """What is to be measured, each once, the cheapest first."""
    texts = (*c.samplers, *c.noises, REFERENCE)
    calls = {text: parts.make("sampler", on_grid(text)[0]).calls for text in texts}
    pairs = {(text, num // calls[text]) for text in c.samplers for num in c.calls}
    pairs |= {(text, steps) for text in c.noises for steps in c.noise_steps}
    pairs.add((REFERENCE, c.reference_calls))
    found = [Cell(text, steps, steps * calls[text]) for text, steps in pairs if steps]
    return sorted(found, key=lambda cell: (cell.calls, texts.index(cell.sampler), cell.steps))


def sampling_of(config: Config, comparison: SamplersSettings, cell: Cell) -> SamplingConfig:
    """The settings that a cell's images are drawn with."""
    sampler, grid = on_grid(cell.sampler, config.sampling.grid)
    return replace(config.sampling, num=comparison.samples, steps=cell.steps, sampler=sampler, grid=grid)


class _Samplers:
    def __init__(self, trained: Evaluate, comparison: SamplersSettings, workdir: Path, console: Console):
        self.comparison = comparison
        self.trained, self.config, self.workdir, self.console = trained, trained.config, workdir, console
        self.samples = comparison.samples
        self.quality = Quality(trained.dataset.train, trained.dataset.info.levels)
        self.floor = self.quality.noise(self.samples)
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
            "sampling": asdict(sampling_of(self.config, self.comparison, cell)),
            "seed": self.config.seed,
            "weights": self.weights,
            "data": self.trained.dataset.info.to_dict(),
        }

    def _measure(self, cell: Cell) -> dict[str, Any]:
        """MMD² of the images of one sampler; every sampler has the same key, and so the same z₁."""
        sampler = ImageSampler(self.trained.model, self.trained.mesh, sampling_of(self.config, self.comparison, cell))
        key = stream_key(self.config.seed, Stream.SAMPLING)
        with progress_of(self.console, f"{cell.sampler}, {cell.calls} calls") as progress:
            images, _ = sampler(self.trained.variables, key, self.samples, progress)
        estimate = self.quality.estimate(images)
        return {"mmd": estimate.mmd, "without": estimate.without.tolist()}

    def _write(self, outcomes: list[SamplerOutcome]) -> str:
        c = self.comparison
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
            "run": str(self.trained.workdir),
        } | provenance(self.config, self.comparison, self.trained.dataset, self.trained.mesh)
        write_json(self.workdir / "samplers.json", record)
        replace_text(self.workdir / "samplers.md", table + "\n")
        drawn = [o for o in outcomes if o.sampler in rows]
        if drawn:
            plots.quality(self.workdir / "samplers.png", drawn, reference, self.floor)
        return table
