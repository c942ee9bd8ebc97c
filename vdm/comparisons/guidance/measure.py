"""compare.py --by=guidance: the quality of a conditional model's samples for each guidance method."""

from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vdm.comparisons.guidance.plot import plot
from vdm.comparisons.guidance.settings import GuidanceSettings
from vdm.comparisons.guidance.table import CAPTIONS, LABELS, NO_CAPTIONS, NO_LABELS, Measure, Row, markdown
from vdm.comparisons.led import UNGUIDED, LedSamplers
from vdm.comparisons.quality import quality_of, weights_of
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
from vdm.config import Config, validate
from vdm.data import examples
from vdm.data.selection import CHOICE, selected
from vdm.errors import InputError
from vdm.evaluation.class_quality import diversity
from vdm.evaluation.images import check_steps
from vdm.evaluation.metrics import Images, Labels
from vdm.evaluation.metrics.quality import Quality
from vdm.files import replace_text, write_json
from vdm.guides import LABEL
from vdm.keys import Stream, stream_key
from vdm.model import DROPPED
from vdm.progress import progress_of
from vdm.runs.folder import lock
from vdm.runs.open import Run, open_run
from vdm.runs.records import weights_digest
from vdm.settings import check

DIVERSITY = "diversity"
MOST_REAL = 20_000
"""Maximum number of real images used for diversity; a random sample if there are more."""


def compare_guidance(
    config: Config,
    settings: GuidanceSettings,
    workdir: Path,
    console: Console,
    programs: Programs,
    run: Path,
    checkpoint: str,
) -> str:
    """Compare guidance on a checkpoint of the run in `run`, measuring what is missing; return the Markdown table.

    WORKDIR/cells/ holds a file for each guidance method; guidance.json, guidance.md and guidance.png are made from them
    and updated after each. Raises `InputError` for invalid input.
    """
    validate(config)
    check(settings, "comparison")
    check_steps(config.sampling, config.objective.num_steps)
    trained = open_run(run, checkpoint, config=config)
    if not trained.model.condition:
        raise InputError(
            f"--run={run}: was trained without labels or captions; must be of a config such as digits_conditional"
        )
    # Check every guidance method before spending hours on the first ones.
    samplers = LedSamplers(trained, replace(config.sampling, num=settings.samples), [UNGUIDED, *settings.guidances])
    labels = trained.conditions(config.sampling, config.seed)(settings.samples).get(LABEL)
    if labels is not None and np.bincount(labels).max() < 2:
        raise InputError(
            f"comparison.samples={settings.samples}: every sample has a different class; must be more, "
            "so that a class has two samples to compare"
        )
    labelled = labels is not None
    quality = quality_of(settings, trained.dataset, labelled, trained.mesh, programs.classifier, console)
    with lock(workdir):
        return _Guidances(trained, settings, quality, samplers, workdir, console).run()


class _Guidances:
    def __init__(
        self,
        trained: Run,
        settings: GuidanceSettings,
        quality: Quality,
        samplers: LedSamplers,
        workdir: Path,
        console: Console,
    ):
        self.trained, self.config, self.settings = trained, trained.config, settings
        self.quality, self.samplers = quality, samplers
        self.workdir, self.console = workdir, console
        self.weights = weights_digest(trained.variables)
        self.conditions = trained.conditions(self.config.sampling, self.config.seed)
        self.labelled = LABEL in trained.model.condition
        self.without, self.unguided = (NO_LABELS, LABELS) if self.labelled else (NO_CAPTIONS, CAPTIONS)
        self.measures = self._measures()

    def run(self) -> str:
        (self.workdir / "cells").mkdir(exist_ok=True)
        dropped = [self.without] * bool(self.trained.model.condition_dropout)
        names = [*dropped, self.unguided, *self.settings.guidances]
        work = Work(len(names))
        rows: list[Row] = []
        table = ""
        for name in names:
            path = self.workdir / "cells" / f"{file_name(name)}.json"
            measured = read_measured(path, self._settings(name), self.measures)
            work.advance(1, skip=measured is not None)
            if measured is None:
                measured = self._measure(name)
                write_measured(path, measured, self._settings(name))
            rows.append(Row(name, {each: estimate_of(measured, each, path) for each in self.measures}))
            said = ", ".join(
                f"{each.heading} {each.show(rows[-1].estimates[measure].value)}"
                for measure, each in self.measures.items()
            )
            self.console.print(f"{name}: {said}; {work}", style="bold")
            table = self._write(rows)
        self.console.print(f"wrote guidance.json, guidance.md and guidance.png to {self.workdir}/", soft_wrap=True)
        return table

    def _measures(self) -> dict[str, Measure]:
        floors, metrics = self.quality.floors, self.quality.metrics
        measures = {name: Measure.of_metric(metric, floors[name]) for name, metric in metrics.items()}
        if self.labelled:
            measures[DIVERSITY] = Measure("diversity within a class", "diversity within a class", 1.0)
        return measures

    @cached_property
    def _training(self) -> tuple[Images, Labels]:
        source = self.trained.dataset.train
        batch = examples(source, selected(len(source), MOST_REAL))
        return batch["image"], batch[LABEL]

    def _settings(self, name: str) -> dict[str, Any]:
        """Return everything that the numbers of a row depend on."""
        guidance = self._guidance(name)
        return {
            "row": name,
            "sampling": asdict(self.samplers.settings(guidance)),
            "seed": self.config.seed,
            "weights": self.weights,
            "companions": self.samplers.digests(guidance),
            "data": self.trained.dataset.info.to_dict(),
            # Determines the real images used by the metrics.
            "choice": CHOICE,
        } | weights_of(self.quality)

    def _measure(self, name: str) -> dict[str, Any]:
        """Measure the images of one guidance method; all methods use the same key, and hence the same latents."""
        num, key = self.settings.samples, stream_key(self.config.seed, Stream.SAMPLING)
        condition = self.conditions(num)
        labels = condition.get(LABEL)
        if name == self.without:
            condition = condition | {DROPPED: np.ones(num, bool)}
        guidance = self._guidance(name)
        sampler = self.samplers(guidance)
        with progress_of(self.console, name) as progress:
            images, _ = sampler(self.trained.variables, key, num, progress, condition=condition, guidance=guidance)
        estimates = self.quality(images, labels)
        if labels is not None:
            estimates[DIVERSITY] = diversity(images, labels, *self._training)
        return record_of(estimates)

    def _guidance(self, name: str) -> str:
        return UNGUIDED if name in (self.without, self.unguided) else name

    def _write(self, rows: list[Row]) -> str:
        table = markdown(self.measures, rows)
        record = {
            "outcomes": [
                {"guidance": row.name}
                | {"metrics": {n: {"value": e.value, "stderr": e.stderr} for n, e in row.estimates.items()}}
                for row in rows
            ],
            "of_real_images": {name: each.of_data for name, each in self.measures.items()},
            "checkpoint_step": self.trained.step,
            "run": self.trained.name,
        } | provenance(self.config, self.settings, self.trained.dataset, self.trained.mesh)
        write_json(self.workdir / "guidance.json", record)
        replace_text(self.workdir / "guidance.md", table + "\n")
        plot(self.workdir / "guidance.png", self.measures, rows)
        return table
