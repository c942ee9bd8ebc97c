"""Posteriors of two latents against the prior, by sums over a grid."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from vdm.evaluation.holes import FACTORS, on_grid


class Quadrature(NamedTuple):
    forward: float
    reverse: float
    below: tuple[float, ...]


def quadrature(posterior, cells=300):
    """Of two latents, without chance: midpoint sums, right where the narrowest normal is wider than a cell or two."""
    reach = np.max(np.abs(posterior.mean) + 6 * np.exp(posterior.log_std))
    z, ratio = on_grid(posterior, max(6.0, float(reach)), cells)
    p = stats.multivariate_normal(np.zeros(2)).pdf(z) * (z[1, 1] - z[0, 1]) ** 2
    shares = tuple(float(np.sum(p[ratio < np.log(factor)])) for factor in FACTORS)
    return Quadrature(float(np.sum(p * np.exp(ratio) * ratio)), float(-np.sum(p * ratio)), shares)
