"""Pictures of the samples nearest to a training image, each above that image: where to look for memorized copies."""

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
    """Write closest_EXTRACTOR.png into `folder` for each extractor with a memorization metric; yield each path.

    Each column is a pair of a sample and its nearest training image, the closest first, with their distance as a
    multiple of the median distance of test images. `kept` is the folder of cached features and the samples' key in it.
    """
    measures = {name: each for name, each in scorer.measures.items() if isinstance(each, Memorization)}
    by_extractor = {scorer.metrics[name].extractor: name for name in reversed(measures)}
    for name in by_extractor.values():
        measure = measures[name]
        indices, distances = nearest(scorer.features(samples, *kept)[name], measure.real)
        first = np.argsort(distances)[:PAIRS]
        pairs = [examples(samples, first)["image"], examples(real, indices[first])["image"]]
        # One column per pair.
        frames = to_frames(np.stack(pairs, axis=1), levels)
        path = folder / f"closest_{scorer.metrics[name].extractor.partition('(')[0]}.png"
        scale = float(np.median(measure.others))
        columns = [f"{distance / scale:.2f}" for distance in distances[first]]
        caption = "samples nearest to a training image; distance relative to the median of test images"
        drawing.strip(frames, path, caption, columns, ("sample", "training image"))
        yield path
