"""Group normalization with swish and dropout, in few passes over memory both forward and backward."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

EPSILON = 1e-6

CHANCES = 256
"""Dropout uses 8 random bits per value, so rates are multiples of 1/256."""


class Norm(nn.Module):
    """Compute dropout(swish(GroupNorm(x + shift))), or the same without swish (Wu & He 2018).

    Statistics are computed in float32; the result has type `dtype`. With a modulation (a, b), the input of swish is
    (1 + a) GroupNorm(x + shift) + b, the adaptive group normalization of Dhariwal & Nichol (2021, §3.1).

    >>> norm = Norm()
    >>> x = jnp.ones((2, 4, 4, 8))
    >>> norm.apply(norm.init(jax.random.key(0), x), x).shape
    (2, 4, 4, 8)
    """

    groups: int | None = None
    """Number of groups; None chooses it by `num_groups`."""
    swish: bool = True
    dropout: float = 0.0
    """Dropout rate in training, rounded to a multiple of 1/256; masks come from the random stream "dropout"."""
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        shift: Float[Array, "batch channels"] | None = None,
        train: bool = False,
        modulation: tuple[Float[Array, "batch channels"], Float[Array, "batch channels"]] | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Return an array of the shape of x. `shift` is added to every pixel before anything else."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        groups = self.groups or num_groups(channels)
        shift = jnp.zeros((x.shape[0], channels)) if shift is None else shift.astype(jnp.float32)
        dropped = dropped_chances(self.dropout) if train else 0
        keep = kept(self.make_rng("dropout"), x.shape, dropped) if dropped else None

        def activate(x: Array, slope: Array, offset: Array, keep: Array | None) -> Array:
            y = (x.astype(jnp.float32) * slope[:, None, None, :] + offset[:, None, None, :]).astype(self.dtype)
            y = nn.swish(y) if self.swish else y
            # If all values are dropped, the scale does not matter: the max only avoids a division by 0.
            return y if keep is None else jnp.where(keep, CHANCES / max(CHANCES - dropped, 1) * y, jnp.zeros_like(y))

        apply = jax.checkpoint(activate) if computed_anew() else activate
        slope, offset = coefficients(x, shift, scale, bias, groups)
        if modulation is not None:
            more, beside = (value.astype(jnp.float32) for value in modulation)
            slope, offset = slope * (1 + more), offset * (1 + more) + beside
        return apply(x, slope, offset, keep)


def computed_anew() -> bool:
    """Whether the backward pass recomputes swish and dropout's scaling while it reads x.

    On a CPU this is faster than writing and reading intermediate results. On GPUs, XLA itself decides well what to
    keep.
    """
    return jax.default_backend() == "cpu"


def whole(x: Array) -> Array:
    """Return x, with a barrier on a CPU so that x and its gradient are computed once before anything that uses them.

    Without it, XLA for CPUs would recompute the running sum of residual blocks in each block.
    """
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x


def num_groups(channels: int) -> int:
    """Return 32, or the largest smaller power of two that divides channels and channels // 4.

    So each group has at least four channels, if there are as many.

    Four is the group size of Kingma et al. (2021), with 128 channels in 32 groups. A group of a single channel would
    subtract whatever the conditioning adds to that channel, and the network would not see γ.

    >>> num_groups(128), num_groups(16)
    (32, 4)
    """
    return math.gcd(32, channels, max(channels // 4, 1))


def coefficients(
    x: Float[Array, "batch height width channels"],
    shift: Float[Array, "batch channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    groups: int,
) -> tuple[Float[Array, "batch channels"], Float[Array, "batch channels"]]:
    """Return float32 (slope, offset) such that slope · x + offset is the scaled and biased GroupNorm of x + shift.

    A group's variance is the mean of its channels' variances plus the variance of their means. As a sum of squares, it
    loses no accuracy where x is far from 0.
    """

    def over_group(of_channel: Array) -> Array:
        batch, channels = of_channel.shape
        means = jnp.mean(of_channel.reshape(batch, groups, -1), axis=-1)
        return jnp.repeat(means, channels // groups, axis=-1)

    mean = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
    variance = jax.checkpoint(mean_square)(x, mean)
    of_group = over_group(mean + shift)
    variance = over_group(variance + jnp.square(mean + shift - of_group))
    slope = jax.lax.rsqrt(variance + EPSILON) * scale[None, :]
    return slope, bias[None, :] + (shift - of_group) * slope


@jax.custom_jvp
def mean_square(
    x: Float[Array, "batch height width channels"], mean: Float[Array, "batch channels"]
) -> Float[Array, "batch channels"]:
    """Return the variance over pixels of x, the mean of (x − mean)² in float32; `mean` must be the mean of x.

    To first order the variance does not depend on `mean`, so the derivative skips the pass over x that would give 0.
    """
    return jnp.mean(jnp.square(_less(x, mean)), axis=(1, 2))


@mean_square.defjvp
def _mean_square_jvp(values: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    along_x = 2 * _less(*values) * tangents[0].astype(jnp.float32)
    return mean_square(*values), jnp.mean(along_x, axis=(1, 2))


def _less(x: Array, mean: Array) -> Array:
    return x.astype(jnp.float32) - mean[:, None, None, :]


def dropped_chances(rate: float) -> int:
    """Return the dropout rate in units of 1/256, rounded; 0 and 256 are reserved for the rates 0 and 1."""
    return round(CHANCES * rate) if rate in (0, 1) else min(max(round(CHANCES * rate), 1), CHANCES - 1)


def kept(key: PRNGKeyArray, shape: tuple[int, ...], dropped: int) -> Bool[Array, "..."]:
    """Draw a mask whose values are False with probability dropped/256.

    Four values share the 32 bits of one random number, as drawing these is much of the cost of dropout.
    """
    *leading, channels = shape
    bits = jax.random.bits(key, (*leading, -(-channels // 4)), jnp.uint32)
    values = jax.lax.bitcast_convert_type(bits, jnp.uint8).reshape(*leading, -1)
    # Compare as int32, because 256 does not fit into 8 bits.
    return values[..., :channels].astype(jnp.int32) >= dropped


def check_groups(groups: int | None, channels: int) -> None:
    """Raise ValueError unless `groups` is None or divides `channels`."""
    if groups is not None and (groups < 1 or channels % groups):
        raise ValueError(f"groups={groups}: must be a divisor of channels={channels}, or None")
