"""compare.py --by=family: train and measure a VAE, hierarchical VAEs and diffusion models for several seeds."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from vdm import parallel
from vdm.comparisons.families.latents import Diffusion, Predecessor, Trained
from vdm.comparisons.families.members import VDM, Member, config_of, members
from vdm.comparisons.families.plot import plot
from vdm.comparisons.families.settings import FamiliesSettings
from vdm.comparisons.families.table import FamilyOutcome, markdown
from vdm.comparisons.quality import quality_of, weights_of
from vdm.comparisons.seeds import seeds_of
from vdm.comparisons.work import (
    Programs,
    Train,
    Work,
    cost_of_training,
    open_last,
    provenance,
    read_measured,
    train_once,
    write_measured,
)
from vdm.config import Config, validate
from vdm.data import Dataset, load
from vdm.data.selection import CHOICE
from vdm.errors import InputError
from vdm.evaluation.images import with_steps_of
from vdm.evaluation.metrics.quality import Quality
from vdm.files import replace_text, write_json
from vdm.progress import progress_of
from vdm.reading import field
from vdm.runs.folder import lock
from vdm.runs.kinds import resolve
from vdm.runs.records import read_metrics
from vdm.settings import check


def compare_families(
    config: Config, settings: FamiliesSettings, workdir: Path, console: Console, programs: Programs
) -> str:
    """Train and measure what is missing; return the Markdown tables.

    `config` is that of the diffusion models. WORKDIR/vae-T_1-seed_0, … are ordinary runs with the same data, number of
    steps and batch size. outcome.json in each holds its measurements, from which families.json, families.md and
    families.png are made. Raises `InputError` for invalid input.
    """
    validate(config)
    check(settings, "comparison")
    if config.network.condition:
        raise InputError("config.network.condition: predecessors are not conditioned; must be empty")
    if len(set(settings.depths)) < len(settings.depths):
        raise InputError(f"comparison.depths={settings.depths}: must all be different")
    with progress_of(console, "reading the data") as progress:
        dataset = load(config.data, progress)
    runs: dict[tuple[Member, int], Any] = {}
    # Seed by seed, so that an unfinished comparison already compares all members.
    for seed in seeds_of(config, settings.seeds):
        for member in members(settings):
            try:
                runs[member, seed] = run = resolve(config_of(member, config, settings, seed), dataset)
                validate(run)
            except InputError as error:
                raise InputError(f"comparison, {member}: {error}") from error
    mesh = parallel.make_mesh(config.training.batch_size, config.training.fsdp)
    quality = quality_of(settings, dataset, False, mesh, programs.classifier, console)
    with lock(workdir):
        return _Families(config, settings, quality, dataset, mesh, workdir, console, programs.train).run(runs)


class _Families:
    def __init__(
        self,
        config: Config,
        settings: FamiliesSettings,
        quality: Quality,
        dataset: Dataset,
        mesh: Mesh,
        workdir: Path,
        console: Console,
        train: Train,
    ):
        self.config, self.settings, self.quality, self.dataset = config, settings, quality, dataset
        self.mesh, self.workdir, self.console, self.train = mesh, workdir, console, train

    def run(self, runs: dict[tuple[Member, int], Any]) -> str:
        costs = {member: self._cost(member) for member, _ in runs}
        work = Work(sum(cost_of_training(run, self.dataset) + costs[member] for (member, _), run in runs.items()))
        outcomes: list[FamilyOutcome] = []
        table = ""
        for (member, seed), config in runs.items():
            folder = self.workdir / f"{member.folder}-seed_{seed}"
            train_once(self.train, config, folder, self.dataset, work, self.console)
            path = folder / "outcome.json"
            measured = read_measured(path, self._settings(), self.quality.metrics)
            work.advance(costs[member], skip=measured is not None)
            measured = measured or self._measure(member, config, folder)
            outcomes.append(self._outcome(member, seed, measured, path))
            self.console.print(f"{folder.name}: {outcomes[-1].bits_per_dim:.4f} bits/dim; {work}", style="bold")
            table = self._write(outcomes)
        self.console.print(f"wrote families.json, families.md and families.png to {self.workdir}/", soft_wrap=True)
        return table

    def _cost(self, member: Member) -> int:
        """Return the network calls for measuring a member."""
        c, steps = self.settings, member.depth or self.config.sampling.steps
        calls = steps if member.family == VDM else 1
        return c.samples * calls + len(self.dataset.test) * c.importance * (calls if member.depth else 0)

    def _settings(self) -> dict[str, Any]:
        """Return what the measurements depend on apart from the run."""
        c, config = self.settings, self.config
        sampling = {name: value for name, value in asdict(config.sampling).items() if name != "batch_size"}
        rest = {"draws": config.evaluation.draws, "steps": config.training.steps}
        own = {name: getattr(c, name) for name in ("importance", "samples", "points", "decode")}
        return {"sampling": sampling, "choice": CHOICE} | rest | own | weights_of(self.quality)

    def _measure(self, member: Member, config: Any, folder: Path) -> dict[str, Any]:
        trained = self._open(member, config, folder)
        c = self.settings
        with progress_of(self.console, f"measuring {folder.name}"):
            measured = trained.bound() | {
                "hole": trained.hole(c.points),
                "importance": trained.importance(c.importance),
            }
            metrics = self._quality(trained.samples(c.samples))
            aggregate = trained.samples_from_aggregate(c.samples)
        measured |= {"metrics": metrics, "aggregate": None if aggregate is None else self._quality(aggregate)}
        measured |= {"parameters": trained.num_parameters, "seconds": self._seconds(config, folder)}
        write_measured(folder / "outcome.json", measured, self._settings())
        return measured

    def _open(self, member: Member, config: Any, folder: Path) -> Trained:
        """Open the final checkpoint of the run. A discrete-time model samples with all of its steps."""
        if member.family != VDM:
            return Predecessor(open_last(config, folder, self.mesh), self.settings.decode)
        sampling = with_steps_of(config.sampling, member.depth)
        return Diffusion(open_last(replace(config, sampling=sampling), folder, self.mesh))

    def _quality(self, samples: np.ndarray) -> dict[str, float]:
        return {name: estimate.value for name, estimate in self.quality(samples).items()}

    def _seconds(self, config: Any, folder: Path) -> float:
        """Return the seconds for all steps, at the pace of each log line."""
        batch_size, before, seconds = config.training.batch_size, 0, 0.0
        for record in read_metrics(folder / "metrics.jsonl"):
            if record["kind"] == "train":
                pace = field(record, "images_per_second", float, folder / "metrics.jsonl")
                seconds += (record["step"] - before) * batch_size / pace
                before = record["step"]
        return seconds

    def _outcome(self, member: Member, seed: int, measured: dict[str, Any], path: Path) -> FamilyOutcome:
        def metrics_of(name: str) -> dict[str, float]:
            return {metric: field(measured, (name, metric), float, path) for metric in self.quality.metrics}

        rates = field(measured, "rates", tuple[float, ...] | None, path, None)
        active = field(measured, "active", tuple[int, ...] | None, path, None)
        return FamilyOutcome(
            member,
            seed,
            field(measured, "bits_per_dim", float, path),
            field(measured, "reconstruction", float, path),
            rates,
            active,
            field(measured, "importance", float | None, path, None),
            metrics_of("metrics"),
            None if measured.get("aggregate") is None else metrics_of("aggregate"),
            {name: field(measured, ("hole", name), float, path) for name in ("kl", "mmd", "share")},
            field(measured, "parameters", int, path),
            field(measured, "seconds", float, path),
        )

    def _write(self, outcomes: list[FamilyOutcome]) -> str:
        metrics, floors = self.quality.metrics, self.quality.floors
        table = markdown(outcomes, metrics, floors, self.settings.importance)
        record = {
            "outcomes": [asdict(o) | {"member": str(o.member)} for o in outcomes],
            "noise_floors": floors,
        } | provenance(self.config, self.settings, self.dataset, self.mesh)
        write_json(self.workdir / "families.json", record)
        replace_text(self.workdir / "families.md", table + "\n")
        plot(self.workdir / "families.png", metrics, outcomes)
        return table
