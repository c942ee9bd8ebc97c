"""Standard errors and intervals for measurements."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

Groups = Integer[np.ndarray, " images"]
"""Group of each image, e.g. the photograph that it was cut from. Images of one group are not independent."""


def stderr_over_images(values: Float[np.ndarray, " images"], groups: Groups | None = None) -> float | None:
    """Return the standard error of the mean. None for a single image.

    With groups, it is √(G/(G−1) Σ_g (Σ_{k∈g} (x_k − x̄))²)/n for G groups, the only units assumed independent (Liang &
    Zeger 1986); None for a single group. With few groups it is itself poorly known, and tends to be too low.

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
    """Describe what these standard errors treat as independent.

    >>> stderr_over(None), stderr_over(np.array([0, 0, 5]))
    ('images', 'groups (2)')
    """
    return "images" if groups is None else f"groups ({len(np.unique(groups))})"


@dataclass(frozen=True)
class Share:
    """A mean over images, such as a share, with its standard error for images like these; None for a single image."""

    value: float
    stderr: float | None

    @classmethod
    def mean(cls, of: Float[np.ndarray, " images"], groups: Groups | None = None) -> "Share":
        """Return the mean of one number per image, with its standard error."""
        return cls(float(of.mean()), stderr_over_images(of, groups))

    def __str__(self) -> str:
        return f"{self.value:.4f}" + ("" if self.stderr is None else f" ± {self.stderr:.4f}")


def stderr_of_draws(values: Float[np.ndarray, "draws images"]) -> float | None:
    """Return the standard error of the mean for this exact set of images, from independent draws of each image.

    None for a single draw.
    """
    draws, num = values.shape
    # Images are independent, so their variances add.
    return float(np.sqrt(values.var(axis=0, ddof=1).sum() / draws) / num) if draws > 1 else None


def wilson(successes: int, num: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval for a share (1927), 95% by default; it also holds if all or none are successes.

    >>> low, high = wilson(10, 10)
    >>> round(low, 3), round(high, 3)
    (0.722, 1.0)
    """
    share, extra = successes / num, z**2 / num
    middle, half = share + extra / 2, z * np.sqrt(share * (1 - share) / num + extra / (4 * num))
    low, high = (middle - half) / (1 + extra), (middle + half) / (1 + extra)
    return float(max(low, 0.0)), float(min(high, 1.0))


def jackknife(without: Float[np.ndarray, "n *values"]) -> Any:
    """Return the standard error of an estimate from its values without each of n independent examples (Tukey 1958).

    The shape is (*values). Applied to differences of two estimates with the same examples, it is the paired standard
    error of the difference. It is slightly too large on average (Efron & Stein 1981).
    """
    n = len(without)
    return np.sqrt((n - 1) / n * np.sum(np.square(without - without.mean(axis=0)), axis=0))
