"""Standard errors of what is measured."""

from typing import Any

import numpy as np
from jaxtyping import Float


def stderr_over_images(values: Float[np.ndarray, " images"]) -> float | None:
    """Standard error of the mean; None of one image."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def stderr_of_draws(values: Float[np.ndarray, "draws images"]) -> float | None:
    """Standard error of the mean for these very images, from independent draws of each alone; None of a single draw."""
    draws, num = values.shape
    # Images are independent, so their variances add.
    return float(np.sqrt(values.var(axis=0, ddof=1).sum() / draws) / num) if draws > 1 else None


def jackknife(without: Float[np.ndarray, "n *values"]) -> Any:
    """Standard error of an estimate from its values with one of n independent examples left out (Tukey 1958).

    Shape (*values). Of differences of two estimates whose examples belong together it is that of the difference,
    paired. A little too large on average (Efron & Stein 1981).
    """
    n = len(without)
    return np.sqrt((n - 1) / n * np.sum(np.square(without - without.mean(axis=0)), axis=0))
