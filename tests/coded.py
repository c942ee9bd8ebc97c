"""What codes of images are held against: exact denoisers in float64 numpy, and the bounds of their T-step models."""

from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from oracle import alpha, decoder_log_prob, sigma
from scipy.special import softmax
from tiny import perturbed

from vdm import schedules
from vdm.codec.normals import Stack

PosteriorMean = Callable[[np.ndarray, float], np.ndarray]
"""(z, γ) -> E[x|z], elementwise."""


def values(levels: int) -> np.ndarray:
    """The levels in [−1, 1]."""
    return (2 * np.arange(levels) + 1) / levels - 1


def normal(mean: float, std: float) -> PosteriorMean:
    """Of independent pixels N(mean, std²)."""

    def posterior_mean(z: np.ndarray, gamma: float) -> np.ndarray:
        a, var = alpha(gamma), sigma(gamma) ** 2
        return mean + a * std**2 / (a**2 * std**2 + var) * (z - a * mean)

    return posterior_mean


def points(probabilities: np.ndarray) -> PosteriorMean:
    """Of independent pixels with these probabilities of their levels."""
    x, log_p = values(len(probabilities)), np.log(probabilities)

    def posterior_mean(z: np.ndarray, gamma: float) -> np.ndarray:
        distance = z[..., None] - alpha(gamma) * x
        return softmax(log_p - distance**2 / (2 * sigma(gamma) ** 2), axis=-1) @ x

    return posterior_mean


def predict(posterior_mean: PosteriorMean) -> Callable:
    """As `Chain` calls it: an exact denoiser that nothing has to be compiled for."""
    return lambda z, gamma, labels: posterior_mean(z.astype(np.float64), float(gamma)).astype(np.float32)


def bound(posterior_mean: PosteriorMean, gammas: np.ndarray, levels: int) -> np.ndarray:
    """Bits of each level of a pixel, L_T with `gammas` from γ(1) down to γ(0): by Gauss–Hermite quadrature over ε."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    x, gammas = values(levels)[:, None], gammas[::-1]
    z_0 = alpha(gammas[0]) * x + sigma(gammas[0]) * nodes
    at = np.broadcast_to(np.arange(levels)[:, None], z_0.shape)
    nats = -decoder_log_prob(at, z_0, gammas[0], levels) @ weights
    for s, t in pairwise(gammas):
        error = x - posterior_mean(alpha(t) * x + sigma(t) * nodes, t)
        nats += 0.5 * (np.exp(-s) - np.exp(-t)) * (error**2 @ weights)
    var = sigma(gammas[-1]) ** 2
    nats += 0.5 * (alpha(gammas[-1]) ** 2 * x[:, 0] ** 2 + var - 1 - np.log(var))
    return nats / np.log(2)


def gammas(schedule: str, gamma_0: float, gamma_1: float, num_steps: int) -> np.ndarray:
    """γ(1) … γ(0) of a schedule by name; the learned one is off its start."""
    made = getattr(schedules, schedule)(gamma_0, gamma_1, **({"hidden": 5} if schedule == "learned_monotone" else {}))
    params = perturbed(made.init(jax.random.key(0)))
    return np.asarray(made.gamma(params, jnp.linspace(1, 0, num_steps + 1)), np.float64)


def stack(words: int = 1 << 16, seed: int = 0) -> Stack:
    """Random bits."""
    return Stack(np.random.default_rng(seed).integers(1, 1 << 32, words, dtype=np.uint32))
