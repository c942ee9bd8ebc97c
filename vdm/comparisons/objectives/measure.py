"""compare.py --by=objective: train and measure runs that differ in prediction, weighting, proposal and seed."""

import itertools
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from rich.console import Console

from vdm import model as model_lib
from vdm import parallel, parts, precisions
from vdm.comparisons.objectives.settings import ObjectivesSettings
from vdm.comparisons.objectives.table import Choice, ObjectiveOutcome, markdown, speed_ups
from vdm.comparisons.quality import quality_of, weights_of
from vdm.comparisons.seeds import seeds_of
from vdm.comparisons.work import (
    Programs,
    Train,
    Work,
    cost_of_training,
    file_name,
    open_last,
    provenance,
    read_measured,
    train_once,
    write_measured,
)
from vdm.config import Config, validate
from vdm.data import Dataset, load, num_evaluated, resolve
from vdm.data.selection import CHOICE, VERSION
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator, exact_draws
from vdm.evaluation.images import ImageSampler, with_steps_of
from vdm.evaluation.metrics.quality import Quality
from vdm.files import replace_text, write_json
from vdm.guides import LABEL
from vdm.keys import Stream, stream_key
from vdm.progress import progress_of
from vdm.reading import field
from vdm.runs.folder import lock
from vdm.runs.open import Run
from vdm.runs.records import read_evaluation, read_metrics
from vdm.settings import check
from vdm.training import objective as objective_lib
from vdm.training.gradient_noise import gradient_noise


def compare_objectives(
    config: Config, settings: ObjectivesSettings, workdir: Path, console: Console, programs: Programs
) -> str:
    """Train and measure what is missing; return the Markdown tables.

    WORKDIR/eps-elbo-uniform-seed_0, … are ordinary runs with the same network and budget. outcome.json in each holds
    its measurements, from which objectives.json and objectives.md are made. Raises `InputError` for invalid input.
    """
    validate(config)
    check(settings, "comparison")
    runs = {}
    # Seed by seed, so that an unfinished comparison already compares all objectives.
    for seed, *texts in itertools.product(
        seeds_of(config, settings.seeds), settings.predictions, settings.weightings, settings.proposals
    ):
        objective = Choice(*texts)
        run = replace(
            config,
            network=replace(config.network, prediction=objective.prediction),
            objective=replace(config.objective, weighting=objective.weighting, proposal=objective.proposal),
            seed=seed,
        )
        try:
            validate(run)
        except InputError as error:
            raise InputError(f"comparison: {error}") from error
        runs[objective, seed] = run
    if not runs:
        raise InputError("comparison: predictions, weightings and proposals must each have at least one")
    if len({folder_name(*run) for run in runs}) < len(runs):
        raise InputError("comparison: predictions, weightings and proposals must each have no duplicates")
    with progress_of(console, "reading the data") as progress:
        dataset = load(config.data, progress)
    mesh = parallel.make_mesh(config.training.batch_size, config.training.fsdp)
    labelled = LABEL in config.network.condition
    quality = quality_of(settings, dataset, labelled, mesh, programs.classifier, console)
    with lock(workdir):
        return _Objectives(config, settings, quality, dataset, mesh, workdir, console, programs.train).run(runs)


class _Objectives:
    def __init__(
        self,
        config: Config,
        settings: ObjectivesSettings,
        quality: Quality,
        dataset: Dataset,
        mesh: Mesh,
        workdir: Path,
        console: Console,
        train: Train,
    ):
        self.config, self.settings, self.quality, self.dataset = config, settings, quality, dataset
        self.workdir, self.console, self.train = workdir, console, train
        self.mesh = mesh
        sampling = replace(config.sampling, num=settings.samples)
        self.sampling = with_steps_of(sampling, config.objective.num_steps)

    def run(self, runs: dict[tuple[Choice, int], Config]) -> str:
        c, batch_size = self.settings, self.config.training.batch_size
        calls = parts.make("sampler", self.sampling.sampler).calls * self.sampling.steps
        bound = len(self.dataset.test) * exact_draws(self.config.objective.num_steps, self.config.evaluation.draws)
        cost_of_measuring = c.samples * calls + 3 * c.gradients * batch_size + bound
        work = Work(len(runs) * (cost_of_training(self.config, self.dataset) + cost_of_measuring))
        outcomes: list[ObjectiveOutcome] = []
        table = ""
        for (objective, seed), run in runs.items():
            config, folder = resolve(run, self.dataset), self.workdir / folder_name(objective, seed)
            train_once(self.train, config, folder, self.dataset, work, self.console)
            path = folder / "outcome.json"
            measured = read_measured(path, self._settings(), self.quality.metrics)
            work.advance(cost_of_measuring, skip=measured is not None)
            measured = measured or self._measure(config, folder)
            noise = field(measured, "gradient_noise", float | None, path)
            evaluations = [r for r in read_metrics(folder / "metrics.jsonl") if self._is_evaluation(r)]
            outcome = ObjectiveOutcome(
                objective,
                seed,
                field(measured, "bits_per_dim", float, path),
                {name: field(measured, ("metrics", name), float, path) for name in self.quality.metrics},
                math.inf if noise is None else noise,
                tuple((r["step"], field(r, "bits_per_dim", float, folder / "metrics.jsonl")) for r in evaluations),
            )
            outcomes.append(outcome)
            quality = "".join(f"{m.title} {outcome.metrics[n]:.2e}, " for n, m in self.quality.metrics.items())
            self.console.print(
                f"{folder.name}: {outcome.bits_per_dim:.4f} bits/dim, {quality}gradient noise "
                f"{outcome.gradient_noise:.2f}; {work}",
                style="bold",
            )
            table = self._write(outcomes)
        self.console.print(f"wrote objectives.json and objectives.md to {self.workdir}/", soft_wrap=True)
        return table

    def _is_evaluation(self, record: dict[str, Any]) -> bool:
        """Whether a record is an evaluation, on the images that the current version selects."""
        total = len(self.dataset.test)
        sample = None if num_evaluated(self.dataset.test, self.config.evaluation.max_images) == total else VERSION
        return record["kind"] == "evaluation" and record.get("sample") == sample

    def _settings(self) -> dict[str, Any]:
        """Return what the measurements depend on apart from the run."""
        c = self.config
        sampling = {name: value for name, value in asdict(self.sampling).items() if name != "batch_size"}
        rest = {"gradients": self.settings.gradients, "draws": c.evaluation.draws, "steps": c.training.steps}
        # `choice` determines the real images used by the metrics, and the conditions.
        return {"sampling": sampling, "choice": CHOICE} | rest | weights_of(self.quality)

    def _measure(self, config: Config, folder: Path) -> dict[str, Any]:
        trained = open_last(config, folder, self.mesh)
        key = stream_key(config.seed, Stream.SAMPLING)
        with progress_of(self.console, f"sampling {folder.name}") as progress:
            num = self.sampling.num
            condition = trained.conditions(self.sampling, config.seed)(num)
            images, _ = ImageSampler(trained.model, self.mesh, self.sampling)(
                trained.variables, key, num, progress, condition=condition
            )
        batches = (config.training.batch_size, self.settings.gradients, config.training.accumulate)
        key = stream_key(config.seed, Stream.EVALUATION)
        model = model_lib.for_training(config)
        noise = gradient_noise(
            model,
            objective_lib.from_config(config),
            self.mesh,
            trained.variables,
            trained.proposal,
            self.dataset.train,
            key,
            *batches,
        )
        bound = self._bound(trained)
        estimates = self.quality(images, (condition or {}).get(LABEL))
        metrics = {name: estimate.value for name, estimate in estimates.items()}
        measured = {"bits_per_dim": bound, "metrics": metrics, "gradient_noise": _finite(noise)}
        write_measured(folder / "outcome.json", measured, self._settings())
        return measured

    def _bound(self, trained: Run) -> float:
        """Return the bound of the run's final evaluation if that has the right draws and precision; else compute it."""
        config = trained.config
        draws = exact_draws(config.objective.num_steps, config.evaluation.draws)
        wanted = {"num_draws": draws, "num_steps": config.objective.num_steps, "checkpoint_step": trained.step}
        there = read_evaluation(trained.path)
        # Bounds are compared in float32, whatever precision the runs evaluate in. (Earlier versions: "float32 (…)".)
        in_float32 = str(there.get("precision")).startswith(precisions.FLOAT32)
        if "plan" not in there and in_float32 and all(there.get(name) == value for name, value in wanted.items()):
            total: float = field(there, "bits_per_dim.total", float, trained.path / "evaluation.json")
            return total
        evaluator = Evaluator(trained.model, self.mesh, config.evaluation.batch_size)
        key = trained.key(Stream.EVALUATION)
        result = evaluator(trained.variables, self.dataset.test, key, draws, num_steps=config.objective.num_steps)
        return result.total

    def _write(self, outcomes: list[ObjectiveOutcome]) -> str:
        table = markdown(outcomes, self.quality.metrics, self.quality.floors)
        ratios = {"-".join(objective): ratio for objective, ratio in speed_ups(outcomes).items()}
        if ratios:
            table += "\n\n| steps to the final loss of the first proposal, as a ratio | |\n|---|---|"
            table += "".join(f"\n| {name} | {ratio:.2f} |" for name, ratio in ratios.items())
        record = {
            "outcomes": [asdict(o) | {"gradient_noise": _finite(o.gradient_noise)} for o in outcomes],
            "noise_floors": self.quality.floors,
            "steps_ratios": {name: _finite(ratio) for name, ratio in ratios.items()},
        } | provenance(self.config, self.settings, self.dataset, self.mesh)
        write_json(self.workdir / "objectives.json", record)
        replace_text(self.workdir / "objectives.md", table + "\n")
        return table


def _finite(value: float) -> float | None:
    """Return None for infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def folder_name(objective: Choice, seed: int) -> str:
    """Return the name of a run's folder."""
    return file_name(*objective, f"seed_{seed}")
