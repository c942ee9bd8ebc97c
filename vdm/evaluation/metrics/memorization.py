"""Detects copies of training images: samples' distances from the nearest one, compared with those of unseen images."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Integer

from vdm.evaluation.metrics import distances
from vdm.evaluation.metrics.halves import disjoint
from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, RealFeatures, Reference

BLOCKS = 50
"""Number of parts left out in turn: a jackknife over single images is wrong for a median (Efron 1979)."""

LEAST = 2 * BLOCKS

NEAR = 0.01
"""Share of test images that count as close to a training image."""

Lengths = Float64[np.ndarray, " images"]
OtherLengths = Float64[np.ndarray, " others"]
Statistic = Callable[[Lengths, OtherLengths], Estimate]


def memorization(extractor: str = "pixels") -> Metric:
    """Median distance of samples from the nearest training image, relative to test images: 1 if new, 0 if copied.

    Below 1 means closer than new images are. Blurred or gray samples are also close to many images, so look at the
    closest pairs (`nearest`).

    >>> memorization().title
    'memorization ratio'
    """
    return _metric("memorization ratio", ratio_of_medians, extractor, LEAST, lower_is_better=False)


def copies(extractor: str = "pixels") -> Metric:
    """Share of samples closer to a training image than all but 1% of test images: 0.01 if new, 1 if all are copied.

    It shows a few copies among many new images, which leave the median unchanged.

    >>> copies().heading()
    'share of copies'
    """
    return _metric("share of copies", share_near, extractor, 2, lower_is_better=True)


def _metric(title: str, statistic: Statistic, extractor: str, least: int, lower_is_better: bool) -> Metric:
    def prepare(reference: Reference) -> Memorization:
        return Memorization(statistic, reference)

    words = title if extractor == "pixels" else f"{title}, {extractor}"
    return Metric(words, prepare, extractor, "", digits=3, lower_is_better=lower_is_better, least=least)


def nearest(features: Features, real: RealFeatures) -> tuple[Integer[np.ndarray, " images"], Lengths]:
    """Return the index of the nearest real image and its distance for each image.

    `np.argsort` of the distances lists the closest pairs first.

    >>> nearest(np.array([[0.0], [5.0]], np.float32), np.array([[4.0], [1.0], [9.0]], np.float32))
    (array([1, 0]), array([1., 1.]))
    """
    about = distances.center(real)
    y = distances.columns(real, about)
    indices = np.zeros(len(features), np.int64)
    lengths = np.zeros(len(features))
    for rows, x in distances.blocks(features, about):
        indices[rows] = np.asarray(distances.nearest_column(x, y))[: rows.stop - rows.start]
        # Recompute in float64: for copies, the distances from the search are rounding noise.
        difference = features[rows].astype(np.float64) - real[indices[rows]]
        lengths[rows] = np.sqrt(np.sum(np.square(difference), axis=1))
    return indices, lengths


def ratio_of_medians(samples: Lengths, others: OtherLengths) -> Estimate:
    """Return the ratio of median distances, and the same without each block of samples.

    Raises ValueError for fewer than 100 samples.
    """
    if len(samples) < LEAST:
        raise ValueError(f"images: {len(samples)} of them; must be {LEAST} or more")
    scale = float(np.median(others))
    if not scale > 0:
        raise ValueError("real images: most test images are training images too; their distance is 0")
    left = [np.delete(samples, rows) for rows in np.array_split(np.arange(len(samples)), BLOCKS)]
    return Estimate(float(np.median(samples)) / scale, np.array([np.median(rest) for rest in left]) / scale)


def share_near(samples: Lengths, others: OtherLengths) -> Estimate:
    """Return the share of samples closer than a share `NEAR` of the others. Raises ValueError for fewer than two."""
    if len(samples) < 2:
        raise ValueError(f"images: {len(samples)} of them; must be 2 or more")
    near = (samples <= np.quantile(others, NEAR)).astype(np.float64)
    return Estimate(float(near.mean()), (near.sum() - near) / (len(near) - 1))


class Memorization:
    """A statistic of samples' distances from training images, relative to those of test images."""

    def __init__(self, statistic: Statistic, reference: Reference):
        """Raise ValueError if there are no test images."""
        self.statistic, self.real = statistic, reference.features
        self.num_others = len(reference.others)
        self.others = nearest(reference.others, self.real)[1]

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """The standard error is over the samples; `noise_floor` shows the contribution of the test images."""
        return self.statistic(nearest(features, self.real)[1], self.others)

    def noise_floor(self, num: int) -> float:
        """Return the value for `num` of the test images (at most half), compared with the other test images."""
        part, rest = disjoint(len(self.others), num)
        return self.statistic(self.others[part], self.others[rest]).value

    def cautions(self, num: int) -> tuple[str, ...]:
        """Warn if there are few test images to compare with."""
        if self.num_others >= 1 / NEAR:
            return ()
        return (f"only {self.num_others} test images to compare with",)
