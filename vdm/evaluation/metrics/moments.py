"""Mean and covariance of features in float64, summed over any number of rows in blocks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

BLOCK = 4096
"""Number of rows in a block."""


class Moments(NamedTuple):
    """Mean and covariance of features, which describe them if they are taken as Gaussian."""

    num: int
    """Number of images."""
    mean: Float64[np.ndarray, " dims"]
    cov: Float64[np.ndarray, "dims dims"]
    """Unbiased: the sum of products divided by num − 1."""


def moments(features: Float[np.ndarray, "num dims"]) -> Moments:
    """Compute mean and covariance over rows, which may be a memory map. Raises ValueError for fewer than two.

    >>> mean_and_cov = moments(np.array([[0.0, 1.0], [2.0, 3.0]], np.float32))
    >>> mean_and_cov.mean.tolist(), mean_and_cov.cov.tolist()
    ([1.0, 2.0], [[2.0, 2.0], [2.0, 2.0]])
    """
    num, dims = features.shape
    if num < 2:
        raise ValueError(f"features: of {num} images; a covariance needs 2 or more")
    blocks = range(0, num, BLOCK)
    mean = sum((features[k : k + BLOCK].sum(axis=0, dtype=np.float64) for k in blocks), np.zeros(dims)) / num
    # Center first: for features far from 0, sums of squares would cancel.
    products = np.zeros((dims, dims))
    for k in blocks:
        centred = features[k : k + BLOCK].astype(np.float64) - mean
        products += centred.T @ centred
    return Moments(num, mean, products / (num - 1))
