"""compare.py --by=sampler: sample quality of a trained model for every sampler and number of network calls."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from vdm import parts
from vdm.comparisons.quality import quality_of, weights_of
from vdm.comparisons.samplers.plot import plot
from vdm.comparisons.samplers.settings import SamplersSettings, on_grid
from vdm.comparisons.samplers.table import (
    Measured,
    SamplerOutcome,
    by_sampler,
    calls_markdown,
    noises_markdown,
)
from vdm.comparisons.work import (
    Programs,
    Work,
    estimate_of,
    file_name,
    provenance,
    read_measured,
    record_of,
    write_measured,
)
from vdm.config import Config, SamplingConfig, validate
from vdm.data.selection import CHOICE
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler, with_steps_of
from vdm.evaluation.metrics import Estimate
from vdm.evaluation.metrics.quality import Quality
from vdm.files import replace_text, write_json
from vdm.guides import LABEL
from vdm.keys import Stream, stream_key
from vdm.progress import progress_of
from vdm.runs.companions import open_companions
from vdm.runs.folder import lock
from vdm.runs.open import Run, open_run
from vdm.runs.records import weights_digest
from vdm.settings import check

REFERENCE = "ancestral"


class Cell(NamedTuple):
    """One cell of the tables."""

    sampler: str
    """The sampler as in the config, with its grid if it names one."""
    steps: int
    calls: int
    """Network calls per image."""


def compare_samplers(
    config: Config,
    settings: SamplersSettings,
    workdir: Path,
    console: Console,
    programs: Programs,
    run: Path,
    checkpoint: str,
) -> str:
    """Compare samplers on a checkpoint of the run in `run`, measuring what is missing; return the Markdown tables.

    WORKDIR/cells/ holds a file for each sampler and number of steps; samplers.json, samplers.md and samplers.png are
    made from them and updated after each. Raises `InputError` for invalid input.
    """
    validate(config)
    check(settings, "comparison")
    if not settings.metrics:
        raise InputError("comparison.metrics=(): must be one or more")
    # Check before reading data and checkpoint, and before spending hours on the cheaper cells.
    wanted = cells(settings)
    for cell in wanted:
        sampling, model_steps = sampling_of(config, settings, cell), config.objective.num_steps
        if with_steps_of(sampling, model_steps) != sampling:
            raise InputError(
                f"comparison: {cell.sampler} of {cell.steps} steps, but the model has {model_steps}; calls, "
                f"noise_steps and reference_calls must be at most {model_steps} on grids of its own steps"
            )
    trained = open_run(run, checkpoint, config=config)
    sampling = config.sampling
    condition = trained.conditions(sampling, config.seed)(settings.samples)
    labelled = LABEL in (condition or {})
    quality = quality_of(settings, trained.dataset, labelled, trained.mesh, programs.classifier, console)
    with lock(workdir):
        return _Samplers(trained, settings, quality, workdir, console).run(wanted)


def cells(settings: SamplersSettings) -> list[Cell]:
    """Return the different cells to measure, cheapest first."""
    texts = (*settings.samplers, *settings.noises, REFERENCE)
    calls = {text: parts.make("sampler", on_grid(text)[0]).calls for text in texts}
    pairs = {(text, num // calls[text]) for text in settings.samplers for num in settings.calls}
    pairs |= {(text, steps) for text in settings.noises for steps in settings.noise_steps}
    pairs.add((REFERENCE, settings.reference_calls))
    found = [Cell(text, steps, steps * calls[text]) for text, steps in pairs if steps]
    return sorted(found, key=lambda cell: (cell.calls, texts.index(cell.sampler), cell.steps))


def sampling_of(config: Config, settings: SamplersSettings, cell: Cell) -> SamplingConfig:
    """Return the settings with which a cell's images are sampled."""
    sampler, grid = on_grid(cell.sampler, config.sampling.grid)
    return replace(config.sampling, num=settings.samples, steps=cell.steps, sampler=sampler, grid=grid)


class _Samplers:
    def __init__(self, trained: Run, settings: SamplersSettings, quality: Quality, workdir: Path, console: Console):
        self.trained, self.config, self.settings = trained, trained.config, settings
        self.quality, self.workdir, self.console = quality, workdir, console
        self.weights = weights_digest(trained.variables)
        self.companions = open_companions(trained, self.config.sampling.guidance)

    def run(self, wanted: list[Cell]) -> str:
        (self.workdir / "cells").mkdir(exist_ok=True)
        samples = self.settings.samples
        work = Work(samples * sum(cell.calls for cell in wanted))
        estimates: dict[Cell, Mapping[str, Estimate]] = {}
        table = ""
        for cell in wanted:
            path = self.workdir / "cells" / f"{file_name(cell.sampler, str(cell.steps))}.json"
            measured = read_measured(path, self._settings(cell), self.quality.metrics)
            work.advance(samples * cell.calls, skip=measured is not None)
            if measured is None:
                measured = self._measure(cell)
                write_measured(path, measured, self._settings(cell))
            estimates[cell] = {name: estimate_of(measured, name, path) for name in self.quality.metrics}
            quality = ", ".join(
                f"{metric.title} {estimates[cell][name].value:.2e} ± {estimates[cell][name].stderr:.1e}"
                for name, metric in self.quality.metrics.items()
            )
            self.console.print(f"{cell.sampler}, {cell.calls} calls: {quality}; {work}", style="bold")
            table = self._write(estimates)
        self.console.print(f"wrote samplers.json, samplers.md and samplers.png to {self.workdir}/", soft_wrap=True)
        return table

    def _settings(self, cell: Cell) -> dict[str, Any]:
        """Return everything that a cell's numbers depend on."""
        return {
            "sampling": asdict(sampling_of(self.config, self.settings, cell)),
            "seed": self.config.seed,
            "weights": self.weights,
            "data": self.trained.dataset.info.to_dict(),
            # Determines the real images used by the metrics, and the conditions.
            "choice": CHOICE,
        } | self._weights_beside()

    def _weights_beside(self) -> dict[str, Any]:
        """Identify the weights of guiding models and of feature extractors."""
        guides = [weights_digest(each.variables) for each in self.companions.values() if each.variables]
        return weights_of(self.quality) | ({"companions": guides} if guides else {})

    def _measure(self, cell: Cell) -> dict[str, Any]:
        """Measure the images of one sampler; all samplers use the same key, and hence the same z₁."""
        sampling = sampling_of(self.config, self.settings, cell)
        sampler = ImageSampler(self.trained.model, self.trained.mesh, sampling, companions=self.companions)
        key = stream_key(self.config.seed, Stream.SAMPLING)
        with progress_of(self.console, f"{cell.sampler}, {cell.calls} calls") as progress:
            trained, num = self.trained, sampling.num
            condition = trained.conditions(sampling, self.config.seed)(num)
            images, _ = sampler(trained.variables, key, num, progress, condition=condition)
        estimates = self.quality(images, (condition or {}).get(LABEL))
        return record_of(estimates)

    def _measured(self, estimates: Mapping[Cell, Mapping[str, Estimate]]) -> dict[str, Measured]:
        """Collect the results so far by metric."""
        result = {}
        for name, metric in self.quality.metrics.items():
            outcomes = [SamplerOutcome(*cell, several[name]) for cell, several in estimates.items()]
            wanted = (REFERENCE, self.settings.reference_calls)
            reference = next((o for o in outcomes if (o.sampler, o.calls) == wanted), None)
            result[name] = Measured(metric, self.quality.floors[name], outcomes, reference)
        return result

    def _write(self, estimates: Mapping[Cell, Mapping[str, Estimate]]) -> str:
        s, measured = self.settings, self._measured(estimates)
        rows = list(dict.fromkeys((*s.samplers, REFERENCE)))
        columns = sorted({*s.calls, s.reference_calls})
        table = "\n\n".join(
            text
            for one in measured.values()
            for text in (noises_markdown(one, s.noises, s.noise_steps), calls_markdown(one, rows, columns))
        )
        record = {
            "outcomes": [
                cell._asdict() | {"metrics": {n: {"value": e.value, "stderr": e.stderr} for n, e in several.items()}}
                for cell, several in estimates.items()
            ],
            "calls_needed": {
                name: {sampler: one.calls_needed(members) for sampler, members in by_sampler(one.outcomes).items()}
                for name, one in measured.items()
            },
            "noise_floors": self.quality.floors,
            "checkpoint_step": self.trained.step,
            "run": self.trained.name,
        } | provenance(self.config, s, self.trained.dataset, self.trained.mesh)
        write_json(self.workdir / "samplers.json", record)
        replace_text(self.workdir / "samplers.md", table + "\n")
        drawn = [one._replace(outcomes=[o for o in one.outcomes if o.sampler in rows]) for one in measured.values()]
        if all(one.outcomes for one in drawn):
            plot(self.workdir / "samplers.png", drawn)
        return table
