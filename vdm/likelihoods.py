"""Encoding of data into about [−1, 1], and the likelihood p(x|z₀): discretized for integers, Gaussian for real numbers.

With `levels` ≥ 2, data are integers 0 … levels−1. With `levels` = `REAL` they are real numbers, encoded as they are.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian

REAL = 0
"""The value of `levels` that means real-valued (float32) data instead of integers."""

Data: TypeAlias = Integer[Array, "batch *data"] | Float[Array, "batch *data"]
"""Integers, or real numbers."""


def dtype(levels: int) -> np.dtype:
    """Return the dtype of data on the host: uint8 for integers, float32 for real numbers.

    >>> dtype(256), dtype(REAL)
    (dtype('uint8'), dtype('float32'))
    """
    return np.dtype(np.float32 if levels == REAL else np.uint8)


def encode(x: Integer[ArrayLike, "*shape"] | Float[ArrayLike, "*shape"], levels: int) -> Float[Array, "*shape"]:
    """Encode integers 0 … levels−1 as bin centers (2x + 1)/levels − 1 in (−1, 1), float32; real numbers are unchanged.

    >>> encode(jnp.array([0, 1]), levels=2).tolist()
    [-0.5, 0.5]
    >>> encode(jnp.array([0.25, -1.5]), REAL).tolist()
    [0.25, -1.5]
    """
    if levels == REAL:
        return jnp.asarray(x, jnp.float32)
    check_integers(levels)
    return (2 * jnp.asarray(x).astype(jnp.float32) + 1) / levels - 1


def decode(x: Float[ArrayLike, "*shape"], levels: int) -> Integer[Array, "*shape"] | Float[Array, "*shape"]:
    """Return the integer (int32) whose bin contains each value of x in [−1, 1]; real numbers are unchanged.

    Values outside [−1, 1] go to the outermost bins.

    >>> decode(jnp.array([-0.5, 0.5, 3.0]), levels=2).tolist()
    [0, 1, 1]
    """
    if levels == REAL:
        return jnp.asarray(x, jnp.float32)
    check_integers(levels)
    return jnp.clip(jnp.floor((jnp.asarray(x) + 1) * (levels / 2)), 0, levels - 1).astype(jnp.int32)


def logits(
    z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int
) -> Float[Array, "batch *data levels"]:
    """Return log p(x|z₀) of every value 0 … levels−1, up to a constant: −½ SNR(0) (z₀/α₀ − x)², in nats.

    This is the discretized likelihood of VDM (Kingma et al. 2021, Eq. 8): p(x|z₀) ∝ q(z₀|x), elementwise. Raises
    ValueError for real-valued data, which have no list of values.
    """
    check_integers(levels)
    gamma = gaussian.expand(gamma_0, z_0)
    distance = _distance(z_0, gamma, levels)
    return -0.5 * gaussian.snr(gamma)[..., None] * jnp.square(distance)


def log_prob(x: Data, z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int) -> Float[Array, " batch"]:
    """Return log p(x|z₀) in nats, summed over data dimensions: for integers, the normalized `logits` at x, at most 0.

    The product over dimensions of Eq. 3.54 of De Sousa Ribeiro & Glocker (2024) (Kingma et al. 2021, Eq. 8). Per
    element it is e_x − log Σ_k exp(e_k), with the e_k of `_exponents`.

    For real-valued data it is the log-density log N(x; z₀/α₀, e^{γ₀}): as a function of x, q(z₀|x) is a Gaussian of
    variance σ₀²/α₀².
    """
    if levels == REAL:
        gamma = gaussian.expand(gamma_0, z_0)
        square = gaussian.snr(gamma) * jnp.square(x - z_0 / gaussian.alpha(gamma))
        return -0.5 * jnp.sum(square + gamma + np.float32(np.log(2 * np.pi)), axis=range(1, x.ndim))
    nearest, exponent = _exponents(z_0, gamma_0, levels)
    # A log-sum-exp that needs no maximum: no exponent is above 0.
    steps = _values(levels, x.ndim) - nearest[..., None]
    total = jnp.sum(jnp.exp(exponent(steps)), axis=-1)
    at_x = exponent((x.astype(jnp.int32) - nearest)[..., None])[..., 0]
    return jnp.sum(at_x - jnp.log(total), axis=range(1, x.ndim))


def mean(z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int) -> Float[Array, "batch *data"]:
    """Return E[x|z₀] under p(x|z₀), elementwise, in the units of x: from 0 to levels − 1, or z₀/α₀ for real numbers."""
    if levels == REAL:
        return z_0 / gaussian.alpha(gaussian.expand(gamma_0, z_0))
    nearest, exponent = _exponents(z_0, gamma_0, levels)
    steps = _values(levels, z_0.ndim) - nearest[..., None]
    weights = jnp.exp(exponent(steps))
    # Both sums in one pass, so that no (…, levels) array is held in memory.
    total, moment = jax.lax.reduce(
        (weights, weights * steps.astype(jnp.float32)),
        (jnp.float32(0), jnp.float32(0)),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        (z_0.ndim,),
    )
    return nearest.astype(jnp.float32) + moment / total


def mode(z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int) -> Data:
    """Return the most probable x given z₀: the integer (int32) nearest to z₀/α₀, or z₀/α₀ itself for real numbers."""
    return decode(z_0 / gaussian.alpha(gaussian.expand(gamma_0, z_0)), levels)


def sample(key: PRNGKeyArray, z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int) -> Data:
    """Draw from p(x|z₀): int32, or float32 for real numbers."""
    if levels == REAL:
        noise = jax.random.normal(key, z_0.shape)
        return mean(z_0, gamma_0, levels) + jnp.exp(0.5 * gaussian.expand(gamma_0, z_0)) * noise
    nearest, exponent = _exponents(z_0, gamma_0, levels)

    # The largest of log p + Gumbel noise, value by value, so that no (…, levels) array is held in memory.
    def compared(k: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        noise = jax.random.gumbel(jax.random.fold_in(key, k), z_0.shape)
        score = exponent((k - nearest)[..., None])[..., 0] + noise
        larger = score > best[0]
        return jnp.where(larger, score, best[0]), jnp.where(larger, k, best[1])

    start = jnp.full(z_0.shape, -jnp.inf, z_0.dtype), jnp.zeros(z_0.shape, jnp.int32)
    return jax.lax.fori_loop(0, levels, compared, start)[1]


def _exponents(z_0: Array, gamma_0: gaussian.Gamma, levels: int) -> tuple[Array, Callable[[Array], Array]]:
    """Return the integer n nearest to z₀/α₀ and a function k -> log p(n + k|z₀) − log p(n|z₀), k on a new last axis.

    The exponents are ½ SNR(0) δ (2d − δ) with d = z₀/α₀ − n in encoded units and δ = 2k/levels: differences of squares,
    factorized. No exponent is above 0, that of k = 0 is exactly 0, and no large numbers are subtracted, however far
    z₀/α₀ is from the range of the data.
    """
    gamma = gaussian.expand(gamma_0, z_0)
    half_snr = 0.5 * gaussian.snr(gamma)[..., None]
    center = z_0 / gaussian.alpha(gamma)
    nearest = decode(center, levels)
    d = (center - encode(nearest, levels))[..., None]

    def exponent(k: Array) -> Array:
        delta = k.astype(jnp.float32) * (2 / levels)
        return half_snr * delta * (2 * d - delta)

    return nearest, exponent


def _values(levels: int, ndim: int) -> Array:
    """0 … levels−1 on a last axis, after `ndim` axes of size 1."""
    return jnp.arange(levels).reshape((1,) * ndim + (levels,))


def _distance(z_0: Array, gamma: Array, levels: int) -> Array:
    """z₀/α₀ − x for every value x, on a new last axis."""
    center = (z_0 / gaussian.alpha(gamma))[..., None]
    return center - encode(_values(levels, z_0.ndim), levels)


def check_integers(levels: int) -> None:
    """Raise ValueError unless `levels` ≥ 2, i.e. unless the data are integers."""
    if levels < 2:
        raise ValueError(f"levels={levels}: must be 2 or more")
