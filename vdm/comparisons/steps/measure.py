"""compare.py --by=steps: train discrete- and continuous-time models alike, and evaluate their bounds at every T."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vdm import bounds, parallel
from vdm import model as model_lib
from vdm.comparisons.seeds import seeds_of
from vdm.comparisons.steps.plot import plot
from vdm.comparisons.steps.settings import StepsSettings
from vdm.comparisons.steps.table import Measurement, T, markdown, rows
from vdm.comparisons.work import Programs, Train, Work, cost_of_training, file_name, open_last, provenance, train_once
from vdm.config import Config, validate
from vdm.data import Dataset, load, resolve, selected, selection
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator, exact_draws, total_with_error
from vdm.evaluation.statistics import stderr_over_images
from vdm.files import replace_text, write_json
from vdm.keys import Stream, stream_key
from vdm.npz import NUMBERS, TEXT, read_npz
from vdm.progress import progress_of
from vdm.runs.folder import lock
from vdm.runs.records import git_revision
from vdm.settings import check

ANY = NUMBERS + TEXT


def compare_steps(config: Config, settings: StepsSettings, workdir: Path, console: Console, programs: Programs) -> str:
    """Train and measure what is missing; return the Markdown table.

    WORKDIR/inf-seed_0, WORKDIR/T_10-seed_0, … are ordinary runs with the same budget; runs of the same seed share
    initial weights and data order. Their folders bounds/ hold the bits/dim of each image, all computed with the same
    noise. comparison.json, comparison.md and comparison.png are made from these, for the seeds that are complete.
    Raises `InputError` for invalid input.
    """
    validate(config)
    check(settings, "comparison")
    if config.objective.num_steps is not None:
        raise InputError("config.objective.num_steps: is set from comparison.trained")
    # Checked before a folder is created.
    seeds_of(config, settings.seeds)
    with progress_of(console, "reading the data") as progress:
        dataset = load(config.data, progress)
    with lock(workdir):
        return _Steps(resolve(config, dataset), settings, dataset, workdir, console, programs.train).run()


class _Steps:
    def __init__(
        self, config: Config, settings: StepsSettings, dataset: Dataset, workdir: Path, console: Console, train: Train
    ):
        self.config, self.settings, self.dataset = config, settings, dataset
        self.workdir, self.console, self.train = workdir, console, train
        self.mesh = parallel.make_mesh()
        self.evaluator = Evaluator(model_lib.from_config(config), self.mesh, config.evaluation.batch_size)
        self.evaluated: dict[T, list[T]] = {None: [*settings.evaluated, None]}
        self.evaluated |= {num_steps: [num_steps] for num_steps in settings.trained}
        self.indices = selected(len(dataset.test), settings.max_images)
        self.num_images = len(self.indices)
        if self.num_images < 2:
            raise InputError(f"comparison.max_images: {self.num_images} test image(s) have no standard error")
        self.seeds = seeds_of(config, settings.seeds)
        cost_of_bounds = sum(self._cost_of_bound(e) for several in self.evaluated.values() for e in several)
        cost_of_seed = len(self.evaluated) * cost_of_training(config, dataset) + cost_of_bounds
        self.work = Work(len(self.seeds) * cost_of_seed)

    def run(self) -> str:
        measurements: list[Measurement] = []
        table = ""
        # Seed by seed, so that an unfinished comparison already compares all models.
        for seed in self.seeds:
            for trained in self.evaluated:
                measurements += self._of_run(trained, seed)
            table = self._write(measurements)
        self.console.print(f"wrote comparison.json, .md and .png to {self.workdir}/", soft_wrap=True)
        return table

    def _of_run(self, trained: T, seed: int) -> Iterator[Measurement]:
        """Train one model, if that is not done yet, and measure its bounds."""
        run = self._run(trained, seed)
        train_once(self.train, *run, self.dataset, self.work, self.console)
        variables = None
        for evaluated in self.evaluated[trained]:
            measurement = self._read(trained, seed, evaluated)
            if measurement is None:
                variables = open_last(*run, self.mesh).variables if variables is None else variables
                measurement = self._measure(variables, trained, seed, evaluated)
            else:
                self.work.advance(self._cost_of_bound(evaluated), skip=True)
            yield measurement

    def _run(self, trained: T, seed: int) -> tuple[Config, Path]:
        """Return config and folder of one model's run."""
        objective = replace(self.config.objective, num_steps=trained)
        folder = self.workdir / file_name(_name(trained), f"seed_{seed}")
        return replace(self.config, objective=objective, seed=seed), folder

    def _measure(self, variables: model_lib.Variables, trained: T, seed: int, evaluated: T) -> Measurement:
        """Compute the bound of each image and save it to its own file."""
        num_draws = self._draws(evaluated)
        path = self._path(trained, seed, evaluated)
        what = f"{path.parent.parent.name} at {_name(evaluated)}"
        with progress_of(self.console, what) as progress:
            estimates = self.evaluator.estimates(
                variables,
                self.dataset.test,
                stream_key(self.config.seed, Stream.EVALUATION),
                num_draws,
                max_images=self.settings.max_images,
                progress=progress,
                num_steps=evaluated,
            )
        bits = bounds.bits_per_dim(estimates.terms.sum(axis=(0, 1)), self.evaluator.model.num_dims)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name("partial.npz")
        saved: dict[str, Any] = {
            "bits": bits,
            "num_draws": num_draws,
            "exact_sum": estimates.exact_sum,
            "revision": git_revision() or "",
        }
        groups = {} if estimates.groups is None else {"groups": estimates.groups}
        arrays: dict[str, Any] = {"steps": self.config.training.steps, "indices": self.indices, **saved, **groups}
        np.savez(partial, **arrays)
        partial.replace(path)
        self.work.advance(self._cost_of_bound(evaluated))
        error = stderr_over_images(bits, estimates.groups)
        self.console.print(f"{what}: {total_with_error(float(bits.mean()), error)}; {self.work}", style="bold")
        return Measurement(trained, evaluated, seed, **saved, groups=estimates.groups)

    def _read(self, trained: T, seed: int, evaluated: T) -> Measurement | None:
        """Read an earlier measurement, if it is undamaged and matches the current settings; otherwise None."""
        try:
            saved = {
                name: array[()] for name, array in read_npz(self._path(trained, seed, evaluated), kinds=ANY).items()
            }
            if missing := {"bits", "num_draws", "exact_sum", "revision", "steps", "indices"} - set(saved):
                raise InputError(f"without {missing}")
            if others := [name for name in ("num_draws", "exact_sum", "revision", "steps") if np.ndim(saved[name])]:
                raise InputError(f"{others} of other shapes")
        except InputError:
            return None
        bits, steps, indices, groups = saved["bits"], saved["steps"], saved["indices"], saved.get("groups")
        wanted = ((self.num_images,), self._draws(evaluated), self.config.training.steps)
        if (
            (np.shape(bits), saved["num_draws"], steps) != wanted
            or bits.dtype.kind != "f"
            or not np.isfinite(bits).all()
        ):
            return None
        if groups is not None and (groups.shape != bits.shape or groups.dtype.kind not in "biu"):
            return None
        if not np.array_equal(indices, self.indices):
            return None
        plain = {name: saved[name].item() for name in ("num_draws", "exact_sum", "revision")}
        return Measurement(trained, evaluated, seed, bits, **plain, groups=groups)

    def _path(self, trained: T, seed: int, evaluated: T) -> Path:
        """Its name contains everything that may differ, so that earlier measurements (perhaps of hours) are kept."""
        measured = {"steps": self.config.training.steps, "draws": self._draws(evaluated), "images": self.num_images}
        name = file_name(_name(evaluated), *(f"{what}_{num}" for what, num in measured.items()))
        return self._run(trained, seed)[1] / "bounds" / f"{name}.npz"

    def _draws(self, evaluated: T) -> int:
        return exact_draws(evaluated, self.settings.draws)

    def _cost_of_bound(self, evaluated: T) -> int:
        return self.num_images * self._draws(evaluated)

    def _write(self, measurements: list[Measurement]) -> str:
        own, infinite = rows(measurements)
        table = markdown(own, infinite)
        record = {
            "rows": {
                "trained and evaluated at T": [asdict(row) for row in own],
                "trained at inf, evaluated at T": [asdict(row) for row in infinite],
            },
            "seeds": list(own[-1].by_seed),
            "num_images": self.num_images,
            "images": selection.record(self.num_images, len(self.dataset.test)),
        } | provenance(self.config, self.settings, self.dataset, self.mesh)
        write_json(self.workdir / "comparison.json", record)
        replace_text(self.workdir / "comparison.md", table + "\n")
        plot(self.workdir / "comparison.png", own, infinite)
        return table


def _name(num_steps: T) -> str:
    return "inf" if num_steps is None else f"T_{num_steps}"
