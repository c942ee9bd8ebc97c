"""Precision, recall, density and coverage, from balls around features that reach to the k-th nearest neighbor.

Kynkäänniemi et al. (2019): precision is the share of samples inside any real image's ball, recall the share of real
images inside any sample's. Naeem et al. (2020): density is the number of real images' balls that contain a sample,
divided by k and averaged over samples; coverage is the share of real images whose ball contains a sample. A ball's
radius is the distance from its center to the k-th nearest neighbor within its own set.
"""

from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float64

from vdm.evaluation.metrics import distances
from vdm.evaluation.metrics.halves import disjoint
from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, RealFeatures, Reference

USUAL = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
"""Number of neighbors in each paper."""

Kind = Literal["precision", "recall", "density", "coverage"]


def precision(neighbours: int = 3, extractor: str = "inception") -> Metric:
    """Share of samples on the manifold of real images: quality; higher is better (Kynkäänniemi et al. 2019).

    >>> precision().title, precision().lower_is_better
    ('precision', False)
    """
    return _metric("precision", neighbours, extractor)


def recall(neighbours: int = 3, extractor: str = "inception") -> Metric:
    """Share of real images on the manifold of samples: variety; higher is better (Kynkäänniemi et al. 2019).

    >>> recall(5).title
    'recall (k=5)'
    """
    return _metric("recall", neighbours, extractor)


def density(neighbours: int = 5, extractor: str = "inception") -> Metric:
    """Number of real images around each sample, over the expected one: quality; higher is better (Naeem et al. 2020).

    >>> density(extractor="classifier").title
    'density, classifier'
    """
    return _metric("density", neighbours, extractor)


def coverage(neighbours: int = 5, extractor: str = "inception") -> Metric:
    """Share of real images with a sample in their neighborhood: variety; higher is better (Naeem et al. 2020).

    >>> coverage().show(0.97312)
    '0.973'
    """
    return _metric("coverage", neighbours, extractor)


def _metric(kind: Kind, k: int, extractor: str) -> Metric:
    if k < 1:
        raise ValueError(f"neighbours={k}: must be 1 or more")

    def prepare(reference: Reference) -> Manifold:
        return Manifold(kind, k, reference)

    title = kind + (f" (k={k})" if k != USUAL[kind] else "") + (f", {extractor}" if extractor != "inception" else "")
    least = k + 2 if kind == "recall" else 3
    return Metric(title, prepare, extractor, "", digits=3, lower_is_better=False, least=least)


class Manifold:
    """One of the four metrics, for samples compared with the real images."""

    def __init__(self, kind: Kind, k: int, reference: Reference):
        """Raise ValueError for `k` real images or fewer, and if their features are not known."""
        self.kind, self.k, self.reference = kind, k, reference
        if reference.num <= k:
            raise ValueError(f"real images: {reference.num} of them; must be {k + 1} or more")
        self.real, self.center = reference.features, distances.center(reference.features)

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """Return the value, and its exact value without each image.

        Raises ValueError for fewer than three images or, for recall, fewer than k + 2.
        """
        if self.kind == "recall":
            return recalled(features, self.real, self.k, self.center)
        if len(features) < 3:
            raise ValueError(f"images: {len(features)} of them; must be 3 or more")
        radii = real_radii(self.reference, self.k, self.center)
        if self.kind == "coverage":
            return covered(features, self.real, radii, self.center)
        counts = in_real_balls(features, self.real, radii, self.center)
        return mean_and_without(np.minimum(counts, 1.0) if self.kind == "precision" else counts / self.k)

    def noise_floor(self, num: int) -> float:
        """Return the value for one part of the real images compared with the rest, in the ratio of `num` to all.

        The value depends mostly on this ratio, coverage above all. Raises ValueError if there are too few real images.
        """
        total = len(self.real)
        part, rest = disjoint(total, round(total * num / (total + num)))
        others = Reference.of(self.real[rest])
        return Manifold(self.kind, self.k, others).estimate(self.real[part]).value

    def cautions(self, num: int) -> tuple[str, ...]:
        """Warn that the value depends on the numbers of images, if they differ."""
        if num == len(self.real):
            return ()
        return (f"for {num} images and {len(self.real)} real ones: it depends on both; compare it at these numbers",)


KEPT = 8
_nearest_real: WeakKeyDictionary[Reference, np.ndarray] = WeakKeyDictionary()


def real_radii(reference: Reference, k: int, about: distances.Center) -> Float64[np.ndarray, " real"]:
    """Return the squared distance of each real image from its k-th neighbor; cached, since several metrics need it."""
    kept = _nearest_real.get(reference)
    if kept is None or kept.shape[1] < k:
        kept, _ = distances.neighbours(reference.features, max(k, min(KEPT, reference.num - 1)), about)
        _nearest_real[reference] = kept
    return kept[:, k - 1].astype(np.float64)


def mean_and_without(values: Float64[np.ndarray, " images"]) -> Estimate:
    """Return the mean over images, and the same without each image."""
    return Estimate(float(values.mean()), (values.sum() - values) / (len(values) - 1))


def in_real_balls(
    features: Features, real: RealFeatures, radii: Float64[np.ndarray, " real"], about: distances.Center
) -> Float64[np.ndarray, " images"]:
    """Count how many real images' balls, of squared `radii`, contain each image."""
    counts, y, r = np.zeros(len(features)), distances.columns(real, about), radii.astype(np.float32)[None, :]
    for rows, x in distances.blocks(features, about):
        counts[rows] = np.asarray(distances.counts_in_balls(x, y, r)[0])[: rows.stop - rows.start]
    return counts


def covered(
    features: Features, real: RealFeatures, radii: Float64[np.ndarray, " real"], about: distances.Center
) -> Estimate:
    """Return the coverage; without an image, the real images that had only that one in their ball are lost."""
    lost, found, y = np.zeros(len(features)), 0, distances.columns(features, about)
    for rows, x in distances.blocks(real, about):
        r = np.pad(radii[rows], (0, len(x) - (rows.stop - rows.start))).astype(np.float32)[:, None]
        counts, first = (np.asarray(of)[: rows.stop - rows.start] for of in distances.counts_in_balls(x, y, r))
        found += int(np.count_nonzero(counts))
        np.add.at(lost, first[counts == 1], 1)
    return Estimate(found / len(real), (found - lost) / len(real))


def recalled(features: Features, real: RealFeatures, k: int, about: distances.Center) -> Estimate:
    """Return the recall, and its exact value without each image.

    Without image i, its ball is gone, and each ball that had i among its k neighbors grows to the (k+1)-th. A real
    image is then lost if only i's ball contained it, unless one of the larger balls does; a real image that was in no
    ball is gained if one of the larger balls contains it.
    """
    near, who = distances.neighbours(features, k + 1, about)
    who = who[:, :k]
    lost, gained, found, y = np.zeros(len(features)), np.zeros(len(features)), 0, distances.columns(features, about)
    radii, larger = near[None, :, k - 1], near[None, :, k]
    for rows, x in distances.blocks(real, about):
        of_block = (np.asarray(of)[: rows.stop - rows.start] for of in distances.in_two_balls(x, y, radii, larger))
        counts, first, within = of_block
        found += int(np.count_nonzero(counts))
        for row in np.flatnonzero(counts <= 1):
            # The images whose removal extends a ball to this real image.
            bringing = who[within[row]]
            if counts[row] == 0:
                gained[np.unique(bringing)] += 1
            elif first[row] not in bringing:
                lost[first[row]] += 1
    return Estimate(found / len(real), (found - lost + gained) / len(real))
