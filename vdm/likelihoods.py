"""Integer data and its codes in [−1, 1]: encode, decode, and the discretized likelihood p(x|z₀)."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian


def encode(x: Integer[ArrayLike, "*shape"], levels: int) -> Float[Array, "*shape"]:
    """Bin centres (2x + 1)/levels − 1 in (−1, 1), float32, of integers 0 … levels−1."""
    _check_levels(levels)
    return (2 * jnp.asarray(x).astype(jnp.float32) + 1) / levels - 1


def decode(x: Float[ArrayLike, "*shape"], levels: int) -> Integer[Array, "*shape"]:
    """The integer (int32) whose bin holds each value; values beyond ±1 go to the outermost bins."""
    _check_levels(levels)
    return jnp.clip(jnp.floor((jnp.asarray(x) + 1) * (levels / 2)), 0, levels - 1).astype(jnp.int32)


def logits(
    z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int
) -> Float[Array, "batch *data levels"]:
    """log p(x|z₀) of every value 0 … levels−1, up to a constant: −½ SNR(0) (z₀/α₀ − x)², in nats.

    The discretized likelihood of VDM (Kingma et al. 2021, Eq. 8): p(x|z₀) ∝ q(z₀|x), elementwise.
    """
    gamma = gaussian.expand(gamma_0, z_0)
    distance = _distance(z_0, gamma, levels)
    return -0.5 * gaussian.snr(gamma)[..., None] * jnp.square(distance)


def log_prob(
    x: Integer[Array, "batch *data"], z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int
) -> Float[Array, " batch"]:
    """log p(x|z₀) in nats, summed over data dimensions: normalised `logits` at x. Never above 0.

    Elementwise e_x − log Σ_k exp(e_k) with e_k = ½ SNR(0) δ_k (2d − δ_k): d = z₀/α₀ − n for the value n nearest to
    z₀/α₀, δ_k the distance from n to value k. These are differences of squares, factorised: none is above 0, that of
    n is exactly 0, and no large numbers are subtracted however far off z₀ or x is.
    """
    gamma = gaussian.expand(gamma_0, z_0)
    half_snr = 0.5 * gaussian.snr(gamma)[..., None]
    center = z_0 / gaussian.alpha(gamma)
    nearest = decode(center, levels)
    d = (center - encode(nearest, levels))[..., None]

    def exponent(k: Array) -> Array:
        delta = (k - nearest[..., None]).astype(jnp.float32) * (2 / levels)
        return half_snr * delta * (2 * d - delta)

    # Log-sum-exp in one pass: no (…, levels) array in memory.
    values = jnp.arange(levels).reshape((1,) * x.ndim + (levels,))
    total = jnp.sum(jnp.exp(exponent(values)), axis=-1)
    return jnp.sum(exponent(x[..., None].astype(jnp.int32))[..., 0] - jnp.log(total), axis=range(1, x.ndim))


def mode(z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int) -> Integer[Array, "batch *data"]:
    """The most probable x (int32) given z₀: the value nearest to z₀/α₀."""
    return decode(z_0 / gaussian.alpha(gaussian.expand(gamma_0, z_0)), levels)


def sample(
    key: PRNGKeyArray, z_0: Float[Array, "batch *data"], gamma_0: gaussian.Gamma, levels: int
) -> Integer[Array, "batch *data"]:
    """A draw of p(x|z₀), int32."""
    return jax.random.categorical(key, logits(z_0, gamma_0, levels)).astype(jnp.int32)


def _distance(z_0: Array, gamma: Array, levels: int) -> Array:
    """z₀/α₀ − x for every value x, on a new last axis."""
    center = (z_0 / gaussian.alpha(gamma))[..., None]
    values = encode(jnp.arange(levels), levels)
    return center - values.reshape((1,) * z_0.ndim + (levels,))


def _check_levels(levels: int) -> None:
    if levels < 2:
        raise ValueError(f"levels={levels}: must be 2 or more")
