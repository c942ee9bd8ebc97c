"""The interface of a sample metric: a number for the quality of images by their features, with its standard error."""

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
"""One row per image; may be a memory map."""

RealFeatures = Float32[np.ndarray, "real dims"]
"""`Features` of real images, where their number differs from that of the samples."""

Labels = Integer[np.ndarray, " images"]


class Estimate(NamedTuple):
    """A metric's value for a set of images."""

    value: float
    without: Float[np.ndarray, " groups"]
    """The value without each of n groups of the images in turn: single images, or blocks if that is too expensive.

    The groups have equal size, and are the same in every estimate from the same number of images.
    """

    @property
    def stderr(self) -> float:
        """Standard error over the images, for the given real images."""
        return float(jackknife(self.without))

    def above(self, other: "Estimate") -> tuple[float, float]:
        """Return this value minus the other's, and its paired standard error.

        Image k of both sets should share its randomness.
        """
        return self.value - other.value, float(jackknife(self.without - other.without))


class Reference:
    """The features of the real images; whatever a metric does not ask for is never computed.

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
        """`rows(limit)` returns the features of all `num` images, or of a sample of at most `limit` if it is positive.

        `others()` returns those of real images of the other split. `known()` returns mean and covariance if they need
        not be computed from the rows; if nothing else is known, there are no `rows`. `labels()` and `other_labels()`
        return the labels of the images, if they have any.
        """
        self.num, self.dims = num, dims
        self._rows, self._others, self._known = rows, others, known
        self._labels, self._other_labels = labels, other_labels

    @classmethod
    def of(cls, features: Features, others: RealFeatures | None = None) -> "Reference":
        """Make a reference from arrays of features."""
        num, dims = features.shape

        def rows(limit: int) -> Features:
            return features[selected(num, limit)] if 0 < limit < num else features

        return cls(num, dims, rows, None if others is None else lambda: others)

    def sample(self, limit: int) -> Features:
        """Return the features of at most `limit` images, spread over those available (`vdm.data.selection`).

        A metric that cannot use all images starts with this. Raises ValueError if only mean and covariance are known.
        """
        if self._rows is None:
            raise ValueError("real images: only their mean and covariance are known; this needs the images")
        return self._rows(limit)

    @cached_property
    def features(self) -> Features:
        """Features of all real images. Raises ValueError as `sample` does."""
        return self.sample(0)

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the features of all real images."""
        return moments(self.features) if self._known is None else self._known()

    @cached_property
    def others(self) -> Features:
        """Features of real images that no model was trained on. Raises ValueError if there are none."""
        if self._others is None:
            raise ValueError("real images: there is no test split; this needs one")
        return self._others()

    @cached_property
    def labels(self) -> Labels:
        """Labels of all real images. Raises ValueError if they have none."""
        if self._labels is None:
            raise ValueError("real images: they have no labels; this needs them")
        return self._labels()

    @cached_property
    def other_labels(self) -> Labels:
        """Labels of `others`. Raises ValueError if they have none."""
        if self._other_labels is None:
            raise ValueError("real images: the test split has no labels; this needs them")
        return self._other_labels()


@runtime_checkable
class Measure(Protocol):
    """A metric prepared with the real images."""

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """Evaluate images by their features and, for a metric that needs them, their labels. ValueError for too few."""

    def noise_floor(self, num: int) -> float:
        """Return the value that `num` real images reach by chance: samples can do no better."""

    def cautions(self, num: int) -> tuple[str, ...]:
        """Return warnings about an estimate from `num` images, one per line, e.g. that these are few. Usually empty."""


class Metric(NamedTuple):
    """A metric, and how tables and plots show it.

    To add a metric, register its constructor as a part of kind "metric": comparisons, evaluate.py and
    `vdm metrics score` use the metrics that are named to them.
    """

    title: str
    """Title for headings, e.g. "MMD²"."""
    prepare: Callable[[Reference], Measure]
    """Prepares the metric with the real images. Raises ValueError if they are unsuitable."""
    extractor: str = "pixels"
    """The extractor of its features, as a text of kind "extractor"."""
    output: str = ""
    """Which of the extractor's outputs it uses; by default the first."""
    unit: str = ""
    factor: float = 1.0
    """Tables show the value times this factor …"""
    digits: int = 2
    """… with this many digits."""
    lower_is_better: bool = True
    """True for a distance from the real images, False for a score."""
    labels: bool = False
    """Whether it needs the labels of the images."""
    least: int = 3
    """Minimum number of images."""

    def check(self, num: int, labelled: bool) -> None:
        """Raise ValueError for too few images, and for a metric that needs labels if there are none."""
        if num < self.least:
            raise ValueError(f"images: {num} of them; must be {self.least} or more")
        if self.labels and not labelled:
            raise ValueError("needs the labels of the images, and there are none")

    def heading(self, of: str = "") -> str:
        """Return e.g. "1000 MMD² of samples" for `of` = "of samples", with the unit if there is one."""
        words = ("" if self.factor == 1 else f"{self.factor:g}", self.title, of)
        return " ".join(word for word in words if word) + (f", {self.unit}" if self.unit else "")

    @property
    def floor(self) -> str:
        """Name, in tables, for the value that real images reach."""
        return "noise floor" if self.lower_is_better else "real images"

    def show(self, value: float) -> str:
        """Format the value for tables."""
        return f"{self.factor * value:.{self.digits}f}"
