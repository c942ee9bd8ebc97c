"""float64 numpy re-derivations that the tests hold the package against; nothing here imports it."""

from collections.abc import Callable

import numpy as np
from scipy.special import expit, log_softmax

# Spacing of float32 at 1: the unit in which rounding errors are stated.
EPS = float(np.finfo(np.float32).eps)


def f64(values) -> np.ndarray:
    """A float64 copy, exact for float32 values."""
    return np.asarray(values).astype(np.float64)


def alpha(gamma) -> np.ndarray:
    return np.sqrt(expit(-f64(gamma)))


def sigma(gamma) -> np.ndarray:
    return np.sqrt(expit(f64(gamma)))


def transition(gamma_s, gamma_t) -> tuple[np.ndarray, np.ndarray]:
    """(α_{t|s}, σ²_{t|s}) as Table 3.1 prints them: σ_t² − α_{t|s}² σ_s²."""
    alpha_ts = alpha(gamma_t) / alpha(gamma_s)
    return alpha_ts, sigma(gamma_t) ** 2 - alpha_ts**2 * sigma(gamma_s) ** 2


def posterior(z_t, x, gamma_s, gamma_t) -> tuple[np.ndarray, np.ndarray]:
    """(mean, variance) of q(z_s|z_t, x) by conjugacy of N(α_s x, σ_s²) and N(z_t; α_{t|s} z_s, σ²_{t|s})."""
    alpha_ts, var_ts = transition(gamma_s, gamma_t)
    precision = 1 / sigma(gamma_s) ** 2 + alpha_ts**2 / var_ts
    mean = (alpha(gamma_s) * f64(x) / sigma(gamma_s) ** 2 + alpha_ts * f64(z_t) / var_ts) / precision
    return mean, 1 / precision


def decoder_logits(z_0, gamma_0, levels: int) -> np.ndarray:
    """log q(z₀|x) up to a constant, for every value x on a new last axis: −(z₀ − α₀ x)²/(2 σ₀²)."""
    values = (2 * np.arange(levels) + 1) / levels - 1
    return -((f64(z_0)[..., None] - alpha(gamma_0) * values) ** 2) / (2 * sigma(gamma_0) ** 2)


def decoder_log_prob(x, z_0, gamma_0, levels: int) -> np.ndarray:
    """log p(x|z₀) elementwise: the log-softmax of `decoder_logits` at x."""
    logs = log_softmax(decoder_logits(z_0, gamma_0, levels), axis=-1)
    return np.take_along_axis(logs, np.asarray(x).astype(int)[..., None], axis=-1)[..., 0]


def gaussian_eps(z, gamma, mean: float, std: float):
    """E[ε|z_t] for data N(mean, std²), for numpy or jax arrays of equal rank: σ (z − α m)/(α² s² + σ²)."""
    var = 1 / (1 + np.e**-gamma)
    return var**0.5 * (z - (1 - var) ** 0.5 * mean) / ((1 - var) * std**2 + var)


def central_difference(f: Callable[[np.ndarray], np.ndarray], t, step: float = 1e-6) -> np.ndarray:
    """f'(t) of a float64 function by central differences: relative error about step² f'''/f' + 1e-16/step."""
    return (f(f64(t) + step) - f(f64(t) - step)) / (2 * step)


def assert_mean(samples, expected, sigmas: float = 4.0) -> None:
    """The mean of `samples` (over axis 0) lies within `sigmas` of its own standard errors of `expected`."""
    samples = f64(samples)
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    np.testing.assert_array_less(np.abs(samples.mean(axis=0) - expected), sigmas * error + 1e-12)
