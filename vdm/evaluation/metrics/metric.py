"""What a metric of samples is: a number that says how good images are, with its standard error and its noise floor."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Integer

from vdm.data.dataset import Source, examples
from vdm.data.selection import selected
from vdm.evaluation.statistics import jackknife

Images = Integer[np.ndarray, "_ height width channels"]
"""Integer values 0 … levels − 1."""


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


def reference(source: Source, limit: int = 0) -> Images:
    """All images of a source; or `limit`, if positive, which `vdm.data.selection` chooses from all over it.

    A metric that cannot take all that there are begins with this.

    >>> source = [{"image": np.full((2, 2, 1), k, np.uint8)} for k in range(100)]
    >>> reference(source, 10).shape, int(reference(source, 10).max()) > 50
    ((10, 2, 2, 1), True)
    """
    images: Images = examples(source, selected(len(source), limit))["image"]
    return images


class Measure(Protocol):
    """A metric that has seen the real images."""

    def estimate(self, batches: Iterable[Images]) -> Estimate:
        """Of the images in all batches, which are read once and in order: a metric of sums needs no two at a time.

        Raises ValueError for too few images.
        """

    def noise_floor(self, num: int) -> float:
        """What `num` real images come to by chance: samples can be no better."""


class Metric(NamedTuple):
    """A metric, and how tables and plots show it.

    A constructor of it, registered as a part of kind "metric", is all that a new one takes: comparisons measure by
    the metrics that their settings name.
    """

    title: str
    """As in a heading: "MMD²"."""
    prepare: Callable[[Source, int], Measure]
    """From all real images and their number of levels; see `reference`. ValueError if it can make nothing of them."""
    unit: str = ""
    factor: float = 1.0
    """Tables show the value times this, …"""
    digits: int = 2
    """… to so many digits."""
    lower_is_better: bool = True
    """Whether it is a distance from the real images, or else a score."""

    def heading(self, of: str = "") -> str:
        """ "1000 MMD² of samples", for `of` = "of samples"; with the unit if there is one."""
        words = ("" if self.factor == 1 else f"{self.factor:g}", self.title, of)
        return " ".join(word for word in words if word) + (f", {self.unit}" if self.unit else "")

    def show(self, value: float) -> str:
        """The value as tables have it."""
        return f"{self.factor * value:.{self.digits}f}"
