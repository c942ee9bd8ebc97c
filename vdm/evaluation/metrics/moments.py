"""Mean and covariance of features, in float64: exact sums over as many rows as there are, a block at a time."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

BLOCK = 4096
"""Rows at a time."""


class Moments(NamedTuple):
    """What is known of features where they are taken as Gaussian."""

    num: int
    """Images that they are of."""
    mean: Float64[np.ndarray, " dims"]
    cov: Float64[np.ndarray, "dims dims"]
    """Unbiased: the sum of products over num − 1."""


def moments(features: Float[np.ndarray, "num dims"]) -> Moments:
    """Of rows that may be a memory map. Raises ValueError for fewer than two.

    >>> mean_and_cov = moments(np.array([[0.0, 1.0], [2.0, 3.0]], np.float32))
    >>> mean_and_cov.mean.tolist(), mean_and_cov.cov.tolist()
    ([1.0, 2.0], [[2.0, 2.0], [2.0, 2.0]])
    """
    num, dims = features.shape
    if num < 2:
        raise ValueError(f"features: of {num} images; a covariance needs 2 or more")
    blocks = range(0, num, BLOCK)
    mean = sum((features[k : k + BLOCK].sum(axis=0, dtype=np.float64) for k in blocks), np.zeros(dims)) / num
    # Centred first: of features far from 0, sums of squares would cancel.
    products = np.zeros((dims, dims))
    for k in blocks:
        centred = features[k : k + BLOCK].astype(np.float64) - mean
        products += centred.T @ centred
    return Moments(num, mean, products / (num - 1))
