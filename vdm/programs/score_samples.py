"""evaluate.py --metrics: how good a run's samples are, by any metrics; those that are not there are drawn first."""

import json
from pathlib import Path

import numpy as np

from vdm import parallel, parts
from vdm.errors import InputError
from vdm.evaluation.metrics import Labels
from vdm.evaluation.metrics.features import short
from vdm.evaluation.metrics.scoring import Real
from vdm.programs import closest, scores
from vdm.programs.named_images import real_of
from vdm.programs.sample import Sample
from vdm.programs.scores import Asked, Score, Scores
from vdm.reading import field
from vdm.runs.open import Run
from vdm.runs.shards import Shards, settings_of


def score_samples(
    sample: Sample, asked: Asked, samples: str | None = None, real: str | None = None
) -> dict[str, Score]:
    """Scores what a `Sample` draws: a table, and metrics.json and metrics.md in the images' folder.

    What is missing of its images is drawn first. `samples` is the name of another folder of the run's samples, whose
    images are all taken. `real` names the real images, the run's training images by default. Raises `InputError` for
    bad input, before anything is drawn.
    """
    run, console = sample.run, sample.console
    dataset = run.dataset
    folder = sample.stem if samples is None else sample.stem.parent / samples
    there = None if samples is None else Shards(folder)
    num = sample.settings.num if there is None else len(there)
    labels = None
    if any(parts.make("metric", name).labels for name in asked.metrics):
        labels = _labels(sample, num) if there is None else _labels_of(run, folder, num)
    scores.check(asked.metrics, num, labels is not None)
    # Pictures have their own levels.
    levels = None if real is None or Path(real).expanduser().is_dir() else run.model.levels
    held, others = (Real.of(dataset), None) if real is None else real_of(real, levels, console)
    if others is not None and others.info.levels != run.model.levels:
        raise InputError(
            f"--real={real}: has images of {others.info.levels} levels; must be of {run.model.levels}, as samples are"
        )
    measure = Scores(asked, held, run.model.levels, run.model.shape, console, dataset, run.mesh)
    if there is None:
        sample.images()
        there = Shards(folder, num)
    settings = settings_of(folder)
    kept = folder / "features", short(json.dumps(settings, sort_keys=True))
    found = measure(there, labels, *kept)
    console.print(scores.table(found, f"{folder.name}: {num} images"), soft_wrap=False)
    scores.write(folder, found, folder.name, {"samples": settings, "num": num, "real": held.name})
    console.print(f"wrote {folder}/metrics.json and metrics.md", soft_wrap=True)
    if held.source is not None and parallel.is_main():
        for path in closest.pictures(measure.scorer, there, held.source, run.model.levels, folder, kept):
            console.print(f"wrote {path}", soft_wrap=True)
    return found


def _labels(sample: Sample, num: int) -> Labels | None:
    """Those that the samples are drawn with."""
    condition = sample.conditions(num)
    return None if condition is None or "label" not in condition else np.asarray(condition["label"])


def _labels_of(run: Run, folder: Path, num: int) -> Labels | None:
    """Those that samples on disk were drawn with, by their settings."""
    path, settings = folder / "settings.json", settings_of(folder)
    said = field(settings, "labels", str | None, path, None)
    if said is None:
        return None
    seed, guidance = field(settings, "seed", int, path), field(settings, "guidance", str, path, "none")
    condition = run.conditions(said, seed, guidance)(num)
    return None if condition is None or "label" not in condition else np.asarray(condition["label"])
