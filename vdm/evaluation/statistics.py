"""Standard errors of what is measured."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

Groups = Integer[np.ndarray, " images"]
"""What each image belongs to, a photograph for example; images of one group are not independent."""


def stderr_over_images(values: Float[np.ndarray, " images"], groups: Groups | None = None) -> float | None:
    """Standard error of the mean; None of one image.

    With groups, √(G/(G−1) Σ_g (Σ_{k∈g} (x_k − x̄))²)/n of the G groups, which alone are taken as independent (Liang &
    Zeger 1986); None of one group. Of few groups it is itself poorly known, and rather low.

    >>> round(stderr_over_images(np.array([1.0, 1.0, 3.0, 3.0])), 3)
    0.577
    >>> stderr_over_images(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
    1.0
    """
    number = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(number, values - values.mean())
    count = len(sums)
    return float(np.sqrt(count / (count - 1) * np.sum(np.square(sums))) / len(values)) if count > 1 else None


def stderr_over(groups: Groups | None) -> str:
    """What such errors are over, in words.

    >>> stderr_over(None), stderr_over(np.array([0, 0, 5]))
    ('images', 'groups (2)')
    """
    return "images" if groups is None else f"groups ({len(np.unique(groups))})"


@dataclass(frozen=True)
class Share:
    """A share of images, or another mean over them, and its standard error over images like these; None of one."""

    value: float
    stderr: float | None

    @classmethod
    def mean(cls, of: Float[np.ndarray, " images"], groups: Groups | None = None) -> "Share":
        """That of a number an image."""
        return cls(float(of.mean()), stderr_over_images(of, groups))

    def __str__(self) -> str:
        return f"{self.value:.4f}" + ("" if self.stderr is None else f" ± {self.stderr:.4f}")


def stderr_of_draws(values: Float[np.ndarray, "draws images"]) -> float | None:
    """Standard error of the mean for these very images, from independent draws of each alone; None of a single draw."""
    draws, num = values.shape
    # Images are independent, so their variances add.
    return float(np.sqrt(values.var(axis=0, ddof=1).sum() / draws) / num) if draws > 1 else None


def wilson(successes: int, num: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a share, by default of 95 %, also where all or none are successes (Wilson 1927).

    >>> low, high = wilson(10, 10)
    >>> round(low, 3), round(high, 3)
    (0.722, 1.0)
    """
    share, extra = successes / num, z**2 / num
    middle, half = share + extra / 2, z * np.sqrt(share * (1 - share) / num + extra / (4 * num))
    low, high = (middle - half) / (1 + extra), (middle + half) / (1 + extra)
    return float(max(low, 0.0)), float(min(high, 1.0))


def jackknife(without: Float[np.ndarray, "n *values"]) -> Any:
    """Standard error of an estimate from its values with one of n independent examples left out (Tukey 1958).

    Shape (*values). Of differences of two estimates whose examples belong together it is that of the difference,
    paired. A little too large on average (Efron & Stein 1981).
    """
    n = len(without)
    return np.sqrt((n - 1) / n * np.sum(np.square(without - without.mean(axis=0)), axis=0))
