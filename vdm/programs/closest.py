"""The samples nearest to a training image, each above that image: what to look at where copies are suspected."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vdm.data import examples
from vdm.data.dataset import Source
from vdm.evaluation.latents import to_frames
from vdm.evaluation.metrics.memorization import Memorization, nearest
from vdm.evaluation.metrics.scoring import Scorer
from vdm.plots import images as drawing

PAIRS = 16


def pictures(
    scorer: Scorer, samples: Source, real: Source, levels: int, folder: Path, kept: tuple[Path | None, str]
) -> Iterator[Path]:
    """closest_EXTRACTOR.png in the folder for each metric of memorisation; `kept`: where features are, and of what.

    Columns are pairs, the closest first, with the distance in units of a test image's.
    """
    measures = {name: each for name, each in scorer.measures.items() if isinstance(each, Memorization)}
    by_extractor = {scorer.metrics[name].extractor: name for name in reversed(measures)}
    for name in by_extractor.values():
        measure = measures[name]
        indices, distances = nearest(scorer.features(samples, *kept)[name], measure.real)
        first = np.argsort(distances)[:PAIRS]
        pairs = [examples(samples, first)["image"], examples(real, indices[first])["image"]]
        # A column a pair.
        frames = to_frames(np.stack(pairs, axis=1), levels)
        path = folder / f"closest_{scorer.metrics[name].extractor.partition('(')[0]}.png"
        scale = float(np.median(measure.others))
        columns = [f"{distance / scale:.2f}" for distance in distances[first]]
        caption = "samples nearest to a training image, by their distance over the median of test images"
        drawing.strip(frames, path, caption, columns, ("sample", "training image"))
        yield path
