"""Precision and recall, density and coverage: whose features lie in the balls that reach to the k-th neighbour.

Kynkäänniemi et al. (2019): precision is the share of samples in some real image's ball, recall the share of real images
in some sample's. Naeem et al. (2020): density is the number of real images' balls that a sample lies in, over k, and
coverage the share of real images whose ball has a sample. A ball's radius is the distance from its k-th neighbour
among the images of its own kind.
"""

from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float64

from vdm.evaluation.metrics import distances
from vdm.evaluation.metrics.halves import disjoint
from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, RealFeatures, Reference

USUAL = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
"""Neighbours: what each paper says."""

Kind = Literal["precision", "recall", "density", "coverage"]


def precision(neighbours: int = 3, extractor: str = "inception") -> Metric:
    """Share of samples among the real images: quality; higher is better (Kynkäänniemi et al. 2019).

    >>> precision().title, precision().lower_is_better
    ('precision', False)
    """
    return _metric("precision", neighbours, extractor)


def recall(neighbours: int = 3, extractor: str = "inception") -> Metric:
    """Share of real images among the samples: variety; higher is better (Kynkäänniemi et al. 2019).

    >>> recall(5).title
    'recall (k=5)'
    """
    return _metric("recall", neighbours, extractor)


def density(neighbours: int = 5, extractor: str = "inception") -> Metric:
    """Real images about each sample, over those expected: quality; higher is better (Naeem et al. 2020).

    >>> density(extractor="classifier").title
    'density, classifier'
    """
    return _metric("density", neighbours, extractor)


def coverage(neighbours: int = 5, extractor: str = "inception") -> Metric:
    """Share of real images with a sample next to them: variety; higher is better (Naeem et al. 2020).

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
    """One of the four, of samples beside the real images."""

    def __init__(self, kind: Kind, k: int, reference: Reference):
        """Raises ValueError for `k` real images or fewer, and where their features are not known."""
        self.kind, self.k, self.reference = kind, k, reference
        if reference.num <= k:
            raise ValueError(f"real images: {reference.num} of them; must be {k + 1} or more")
        self.real, self.center = reference.features, distances.center(reference.features)

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """The value, and exactly that without each image. ValueError for fewer than three, for recall than k + 2."""
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
        """What real images come to beside others: two parts of them, in the proportion of `num` to all.

        It depends on the proportion most, coverage above all. ValueError for too few real ones.
        """
        total = len(self.real)
        part, rest = disjoint(total, round(total * num / (total + num)))
        others = Reference.of(self.real[rest])
        return Manifold(self.kind, self.k, others).estimate(self.real[part]).value

    def cautions(self, num: int) -> tuple[str, ...]:
        """That the value depends on the numbers of images, where they differ."""
        if num == len(self.real):
            return ()
        return (f"of {num} images beside {len(self.real)} real ones: it depends on both; compare it at these numbers",)


KEPT = 8
_nearest_real: WeakKeyDictionary[Reference, np.ndarray] = WeakKeyDictionary()


def real_radii(reference: Reference, k: int, about: distances.Center) -> Float64[np.ndarray, " real"]:
    """Squared distance of each real image from its k-th neighbour; several metrics need it, and it is found once."""
    kept = _nearest_real.get(reference)
    if kept is None or kept.shape[1] < k:
        kept, _ = distances.neighbours(reference.features, max(k, min(KEPT, reference.num - 1)), about)
        _nearest_real[reference] = kept
    return kept[:, k - 1].astype(np.float64)


def mean_and_without(values: Float64[np.ndarray, " images"]) -> Estimate:
    """Of a mean over images."""
    return Estimate(float(values.mean()), (values.sum() - values) / (len(values) - 1))


def in_real_balls(
    features: Features, real: RealFeatures, radii: Float64[np.ndarray, " real"], about: distances.Center
) -> Float64[np.ndarray, " images"]:
    """In how many real images' balls, of squared `radii`, each image lies."""
    counts, y, r = np.zeros(len(features)), distances.columns(real, about), radii.astype(np.float32)[None, :]
    for rows, x in distances.blocks(features, about):
        counts[rows] = np.asarray(distances.counts_in_balls(x, y, r)[0])[: rows.stop - rows.start]
    return counts


def covered(
    features: Features, real: RealFeatures, radii: Float64[np.ndarray, " real"], about: distances.Center
) -> Estimate:
    """Coverage: without an image, a real one is lost that had no other in its ball."""
    lost, found, y = np.zeros(len(features)), 0, distances.columns(features, about)
    for rows, x in distances.blocks(real, about):
        r = np.pad(radii[rows], (0, len(x) - (rows.stop - rows.start))).astype(np.float32)[:, None]
        counts, first = (np.asarray(of)[: rows.stop - rows.start] for of in distances.counts_in_balls(x, y, r))
        found += int(np.count_nonzero(counts))
        np.add.at(lost, first[counts == 1], 1)
    return Estimate(found / len(real), (found - lost) / len(real))


def recalled(features: Features, real: RealFeatures, k: int, about: distances.Center) -> Estimate:
    """Recall, and exactly that without each image.

    Without image i its ball is gone, and the balls that i was one of the k neighbours of reach to the (k+1)-th. So a
    real image is lost if i's ball alone had it, unless it lies in one of those larger balls; and one that was in no
    ball is found if it does.
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
            # Whose removal brings a larger ball to this real image.
            bringing = who[within[row]]
            if counts[row] == 0:
                gained[np.unique(bringing)] += 1
            elif first[row] not in bringing:
                lost[first[row]] += 1
    return Estimate(found / len(real), (found - lost + gained) / len(real))
