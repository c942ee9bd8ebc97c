"""The diffusion process and its integrals in float64 NumPy: the reference that `vdm.verify` compares the library with.

Written from the printed formulas, without the library's functions.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array
from scipy.special import expit, log_softmax

from vdm.oracles import Oracle

# For u ~ N(0, 1), E[f(u)] is WEIGHTS_U @ f(U) by the trapezoid rule, exponentially accurate for smooth f.
U = np.linspace(-9, 9, 361)
WEIGHTS_U = np.exp(-(U**2) / 2) / np.sum(np.exp(-(U**2) / 2))


def plane(every: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points (n², 2) and weights (n²,) of the same rule for two variables, on every `every`-th point of `U`."""
    points = np.stack(np.meshgrid(U[::every], U[::every]), axis=-1).reshape(-1, 2)
    weights = np.exp(-np.sum(points**2, axis=1) / 2)
    return points, weights / weights.sum()


def alpha(gamma: ArrayLike) -> Any:
    return np.sqrt(expit(-np.asarray(gamma)))


def sigma(gamma: ArrayLike) -> Any:
    return np.sqrt(expit(np.asarray(gamma)))


def transition(s: ArrayLike, t: ArrayLike) -> tuple[Any, Any]:
    """Return (α_{t|s}, σ²_{t|s}) of q(z_t|z_s) at γ_s and γ_t, as printed in Table 3.1."""
    alpha_ts = alpha(t) / alpha(s)
    return alpha_ts, sigma(t) ** 2 - alpha_ts**2 * sigma(s) ** 2


def conjugate(s: ArrayLike, t: ArrayLike) -> tuple[Any, Any, Any]:
    """Return (a, b, variance) of q(z_s|z_t, x) = N(a z_t + b x, variance), by adding precisions."""
    alpha_ts, var_ts = transition(s, t)
    variance = 1 / (1 / sigma(s) ** 2 + alpha_ts**2 / var_ts)
    return variance * alpha_ts / var_ts, variance * alpha(s) / sigma(s) ** 2, variance


def log_normal(z: np.ndarray) -> np.ndarray:
    """log N(z; 0, 1), elementwise."""
    return -0.5 * (z**2 + np.log(2 * np.pi))


def total(values: np.ndarray) -> np.ndarray:
    """Sum over all axes but the first."""
    return values.reshape(len(values), -1).sum(1)


def decoder(z_0: np.ndarray, gamma_0: float, levels: int, x: np.ndarray) -> np.ndarray:
    """Return log p(x|z₀) elementwise, with p(x|z₀) ∝ q(z₀|x) over all values of x; integer x broadcast against z₀."""
    values = (2 * np.arange(levels) + 1) / levels - 1
    logits = -0.5 * ((z_0[..., None] - alpha(gamma_0) * values) / sigma(gamma_0)) ** 2
    x = np.broadcast_to(x, z_0.shape)
    return np.take_along_axis(log_softmax(logits, axis=-1), x[..., None], axis=-1)[..., 0]


def log_marginal(oracle: Oracle) -> Callable[[np.ndarray, float], np.ndarray]:
    """Return the oracle's `log_marginal`, evaluated in float64."""
    compiled = jax.jit(oracle.log_marginal)

    def log_marginal(z: np.ndarray, gamma: float) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(compiled(z, gamma))

    return log_marginal


def variance(oracle: Oracle, gammas: np.ndarray) -> np.ndarray:
    """Return E Var(ε|z) = 1 − E[E[ε|z]²] at each γ for one-dimensional data, by the trapezoid rule over z."""
    with jax.enable_x64(True):
        z = jnp.linspace(-8, 8, 3201)[:, None]

        def second_moment(gamma: Array) -> Array:
            eps_hat = oracle.denoise(z, gamma)[:, 0]
            return jnp.sum(jnp.square(eps_hat) * jnp.exp(oracle.log_marginal(z, gamma)) * (16 / 3200))

        return 1 - np.asarray(jax.lax.map(second_moment, jnp.asarray(gammas)))
