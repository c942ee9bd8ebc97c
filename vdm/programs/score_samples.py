"""`vdm evaluate --metrics`: score a run's samples by any metrics; missing samples are drawn first."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vdm import parallel, parts
from vdm.config import SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.metrics import Labels
from vdm.evaluation.metrics.features import short
from vdm.evaluation.metrics.scoring import Real
from vdm.guides import LABEL
from vdm.model import Condition
from vdm.plots.samples import is_image
from vdm.programs import closest, scores
from vdm.programs.asked import Asked, names_of
from vdm.programs.latent_sample import LatentSample
from vdm.programs.named_images import real_of
from vdm.programs.sample import Sample
from vdm.programs.scores import Score
from vdm.reading import field
from vdm.runs.open import Run
from vdm.runs.shards import Shards, settings_of


def score_by(given: Any, sample: Sample | LatentSample, batch_size: int) -> None:
    """Run `vdm evaluate --metrics` with the flags that go with it, by their names."""
    if given.samples is not None and given.num is not None:
        raise InputError("--samples: cannot be combined with --num; all images of the folder are measured")
    weights, classifier = (None if path is None else Path(path) for path in (given.weights, given.classifier))
    asked = Asked(names_of(given.metrics), weights, classifier, batch_size)
    score_samples(sample, asked, given.samples, given.real)


def score_samples(
    sample: Sample | LatentSample, asked: Asked, samples: str | None = None, real: str | None = None
) -> dict[str, Score]:
    """Score a run's samples: print a table, and write metrics.json and metrics.md into the folder of the images.

    Missing images are drawn first. If `samples` names another folder of the run's samples, all images in it are scored
    instead. `real` names the real images, by default the run's training images. Raises `InputError` for bad input,
    before anything is drawn.
    """
    run, console = sample.run, sample.console
    held = Real.of(run.dataset) if real is None else real_of(real, run.model.levels, console).real
    # The results go to `folder`; the images may be in another one.
    folder = sample.stem if samples is None else sample.stem.parent / samples
    images = sample.stem if samples is None else _found(sample, samples)
    there = None if samples is None else Shards(images)
    num = sample.settings.num if there is None else len(there)
    labels = None
    if any(parts.make("metric", name).labels for name in asked.metrics):
        labels = _label(sample.conditions(num)) if samples is None else _labels_of(run, images, num)
    labelled, shape, levels = labels is not None, run.model.shape, run.model.levels
    quality = asked.quality(held, levels, shape, num, labelled, console, lambda: run.dataset, run.mesh)
    if there is None:
        sample.images()
        there = Shards(images, num)
    settings = settings_of(images)
    kept = folder / "features", short(json.dumps(settings, sort_keys=True))
    found = scores.measured(quality, there, labels, *kept)
    console.print(scores.table(found, f"{folder.name}: {num} images"), soft_wrap=False)
    scores.write(folder, found, folder.name, settings, num, held)
    console.print(f"wrote {folder}/metrics.json and metrics.md", soft_wrap=True)
    if held.source is not None and is_image(shape) and parallel.is_main():
        for path in closest.pictures(quality.scorer, there, held.source, levels, folder, kept):
            console.print(f"wrote {path}", soft_wrap=True)
    return found


def _found(sample: Sample | LatentSample, name: str) -> Path:
    """Return the folder of samples with this name, beside the other results or in the run itself."""
    places = [sample.stem.parent / name, sample.run.path / "samples" / name]
    return next((place for place in places if place.is_dir()), places[0])


def _labels_of(run: Run, folder: Path, num: int) -> Labels | None:
    """Return the labels that samples on disk were drawn with, according to their settings."""
    path, settings = folder / "settings.json", settings_of(folder)
    said = field(settings, "labels", str | None, path, None)
    if said is None:
        return None
    seed, guidance = field(settings, "seed", int, path), field(settings, "guidance", str, path, "none")
    text = field(settings, "text", str | None, path, None)
    return _label(run.conditions(SamplingConfig(labels=said, guidance=guidance, text=text), seed)(num))


def _label(condition: Condition) -> Labels | None:
    return None if condition is None or LABEL not in condition else np.asarray(condition[LABEL])
