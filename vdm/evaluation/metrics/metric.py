"""What a metric of samples is: a number that says how good images are by their features, with its standard error."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Integer

from vdm.data.selection import selected
from vdm.evaluation.metrics.moments import Moments, moments
from vdm.evaluation.statistics import jackknife

Images: TypeAlias = Integer[np.ndarray, "_ height width channels"] | Float32[np.ndarray, "_ *data"]
"""Integer values 0 … levels − 1, or real numbers."""

Features = Float32[np.ndarray, "images dims"]
"""A row an image; it may be a memory map."""

RealFeatures = Float32[np.ndarray, "real dims"]
"""Of real images, beside `Features` of as many others as there are."""

Labels = Integer[np.ndarray, " images"]


class Estimate(NamedTuple):
    """What a metric says of images."""

    value: float
    without: Float[np.ndarray, " groups"]
    """The value without each of n groups of the images in turn: of single images, or of blocks where that is too dear.

    The groups are equally large, and the same in every estimate from equally many images.
    """

    @property
    def stderr(self) -> float:
        """Standard error over the images, of the real ones given."""
        return float(jackknife(self.without))

    def above(self, other: "Estimate") -> tuple[float, float]:
        """(the value less the other's, its standard error: paired, so image k of both should share its randomness)."""
        return self.value - other.value, float(jackknife(self.without - other.without))


class Reference:
    """The real images, by their features; what a metric does not ask for is never computed.

    >>> real = Reference.of(np.eye(3, dtype=np.float32))
    >>> real.num, real.dims, real.moments.mean.round(3).tolist()
    (3, 3, [0.333, 0.333, 0.333])
    """

    def __init__(
        self,
        num: int,
        dims: int,
        rows: Callable[[int], Features] | None = None,
        others: Callable[[], Features] | None = None,
        known: Callable[[], Moments] | None = None,
        labels: Callable[[], Labels] | None = None,
        other_labels: Callable[[], Labels] | None = None,
    ):
        """`rows(limit)` are the features of all of `num` images, or of a sample of at most `limit`, if positive.

        `others()` are those of real images of the other split. `known()` are mean and covariance where they need not
        be computed of the rows; where nothing else is known, there are no `rows`. `labels()` and `other_labels()` are
        those of the images, where they have any.
        """
        self.num, self.dims = num, dims
        self._rows, self._others, self._known = rows, others, known
        self._labels, self._other_labels = labels, other_labels

    @classmethod
    def of(cls, features: Features, others: RealFeatures | None = None) -> "Reference":
        """Of arrays."""
        num, dims = features.shape

        def rows(limit: int) -> Features:
            return features[selected(num, limit)] if 0 < limit < num else features

        return cls(num, dims, rows, None if others is None else lambda: others)

    def sample(self, limit: int) -> Features:
        """Features of at most `limit` images, from all over those that there are (`vdm.data.selection`).

        A metric that cannot take all of them begins with this. ValueError where mean and covariance alone are known.
        """
        if self._rows is None:
            raise ValueError("real images: only their mean and covariance are known; this needs the images")
        return self._rows(limit)

    @cached_property
    def features(self) -> Features:
        """Of all real images. ValueError as of `sample`."""
        return self.sample(0)

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the features of all real images."""
        return moments(self.features) if self._known is None else self._known()

    @cached_property
    def others(self) -> Features:
        """Of real images that no model was trained on. ValueError where there are none."""
        if self._others is None:
            raise ValueError("real images: there is no test split; this needs one")
        return self._others()

    @cached_property
    def labels(self) -> Labels:
        """Of all real images. ValueError where they have none."""
        if self._labels is None:
            raise ValueError("real images: they have no labels; this needs them")
        return self._labels()

    @cached_property
    def other_labels(self) -> Labels:
        """Of `others`. ValueError where they have none."""
        if self._other_labels is None:
            raise ValueError("real images: the test split has no labels; this needs them")
        return self._other_labels()


@runtime_checkable
class Measure(Protocol):
    """A metric that has seen the real images."""

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """Of images by their features; by their labels too, for a metric that needs them. ValueError for too few."""

    def noise_floor(self, num: int) -> float:
        """What `num` real images come to by chance: samples can be no better."""

    def cautions(self, num: int) -> tuple[str, ...]:
        """What to know of the estimate from `num` images, a line each: that they are few, for example. Mostly none."""


class Metric(NamedTuple):
    """A metric, and how tables and plots show it.

    A constructor of it, registered as a part of kind "metric", is all that a new one takes: comparisons, evaluate.py
    and `vdm metrics score` measure by the metrics that are named to them.
    """

    title: str
    """As in a heading: "MMD²"."""
    prepare: Callable[[Reference], Measure]
    """From the real images. ValueError if it can make nothing of them."""
    extractor: str = "pixels"
    """Whose features it sees, as a text of kind "extractor"."""
    output: str = ""
    """Which output of it; the first, if none is named."""
    unit: str = ""
    factor: float = 1.0
    """Tables show the value times this, …"""
    digits: int = 2
    """… to so many digits."""
    lower_is_better: bool = True
    """Whether it is a distance from the real images, or else a score."""
    labels: bool = False
    """Whether it needs the labels of the images."""
    least: int = 3
    """Of fewer images it says nothing."""

    def check(self, num: int, labelled: bool) -> None:
        """Raises ValueError for so few images, and for a metric of labels where there are none."""
        if num < self.least:
            raise ValueError(f"images: {num} of them; must be {self.least} or more")
        if self.labels and not labelled:
            raise ValueError("needs the labels of the images, and there are none")

    def heading(self, of: str = "") -> str:
        """ "1000 MMD² of samples", for `of` = "of samples"; with the unit if there is one."""
        words = ("" if self.factor == 1 else f"{self.factor:g}", self.title, of)
        return " ".join(word for word in words if word) + (f", {self.unit}" if self.unit else "")

    @property
    def floor(self) -> str:
        """What tables call that which real images come to."""
        return "noise floor" if self.lower_is_better else "real images"

    def show(self, value: float) -> str:
        """The value as tables have it."""
        return f"{self.factor * value:.{self.digits}f}"
