"""Group normalisation with swish and dropout, in few passes over memory, forward and back."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

EPSILON = 1e-6

CHANCES = 256
"""Dropout takes 8 random bits a value: rates are multiples of 1/256."""


class Norm(nn.Module):
    """dropout(swish(GroupNorm(x + shift))), or without swish: statistics in float32, `dtype` out. Wu & He (2018).

    With a modulation (a, b) it is (1 + a) GroupNorm(x) + b that swish is given: the adaptive group normalisation of
    Dhariwal & Nichol (2021, §3.1).

    >>> norm = Norm()
    >>> x = jnp.ones((2, 4, 4, 8))
    >>> norm.apply(norm.init(jax.random.key(0), x), x).shape
    (2, 4, 4, 8)
    """

    groups: int | None = None
    """None: see `num_groups`."""
    swish: bool = True
    dropout: float = 0.0
    """Rate of the values dropped while training, rounded to 1/256, with the stream "dropout"."""
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        shift: Float[Array, "batch channels"] | None = None,
        train: bool = False,
        modulation: tuple[Float[Array, "batch channels"], Float[Array, "batch channels"]] | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Like x. `shift` is added to every pixel before all else."""
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
            # Where all is dropped, 0 of it is 0 at any scale.
            return y if keep is None else jnp.where(keep, CHANCES / max(CHANCES - dropped, 1) * y, jnp.zeros_like(y))

        apply = jax.checkpoint(activate) if computed_anew() else activate
        slope, offset = coefficients(x, shift, scale, bias, groups)
        if modulation is not None:
            more, beside = (value.astype(jnp.float32) for value in modulation)
            slope, offset = slope * (1 + more), offset * (1 + more) + beside
        return apply(x, slope, offset, keep)


def computed_anew() -> bool:
    """Whether the backward pass computes swish and dropout's scaling anew while it reads x.

    On a CPU it had better do so than have what is inside written and read again. XLA for GPUs sees for itself what to
    keep.
    """
    return jax.default_backend() == "cpu"


def whole(x: Array) -> Array:
    """x, which on a CPU is computed as a whole, and so is its gradient, before what comes next.

    XLA would there compute a sum of block after block anew in each block.
    """
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x


def num_groups(channels: int) -> int:
    """32, or fewer so that a group has four channels or more.

    Four are the 128 channels of Kingma et al. (2021) in 32 groups. A group of a single channel would subtract whatever
    the conditioning adds to that channel, and the network would not see γ.
    """
    return math.gcd(32, channels, max(channels // 4, 1))


def coefficients(
    x: Float[Array, "batch height width channels"],
    shift: Float[Array, "batch channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    groups: int,
) -> tuple[Float[Array, "batch channels"], Float[Array, "batch channels"]]:
    """(slope, offset) such that slope · x + offset is the group normalisation of x + shift, scaled and biased; float32.

    A group's variance is the mean of its channels' plus that of their means: a sum of squares, to which nothing is lost
    where x is far from 0.
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
    """The mean over pixels of (x − mean)², float32, of the x that `mean` is the mean of: the variance.

    To first order it does not depend on the mean, and the derivative spares the pass over x that would find 0.
    """
    return jnp.mean(jnp.square(_less(x, mean)), axis=(1, 2))


@mean_square.defjvp
def _mean_square_jvp(values: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    along_x = 2 * _less(*values) * tangents[0].astype(jnp.float32)
    return mean_square(*values), jnp.mean(along_x, axis=(1, 2))


def _less(x: Array, mean: Array) -> Array:
    return x.astype(jnp.float32) - mean[:, None, None, :]


def dropped_chances(rate: float) -> int:
    """How many of 256 chances drop a value: the nearest to the rate, but 0 and 256 for 0 and 1 only."""
    return round(CHANCES * rate) if rate in (0, 1) else min(max(round(CHANCES * rate), 1), CHANCES - 1)


def kept(key: PRNGKeyArray, shape: tuple[int, ...], dropped: int) -> Bool[Array, "..."]:
    """A mask, each value false with chance dropped/256.

    Four values share the 32 bits of one number: to draw these is much of what dropout costs.
    """
    *leading, channels = shape
    bits = jax.random.bits(key, (*leading, -(-channels // 4)), jnp.uint32)
    values = jax.lax.bitcast_convert_type(bits, jnp.uint8).reshape(*leading, -1)
    # 256 is no value of 8 bits.
    return values[..., :channels].astype(jnp.int32) >= dropped


def check_groups(groups: int | None, channels: int) -> None:
    """Raises ValueError for groups of which not all have as many of the channels; None is any."""
    if groups is not None and (groups < 1 or channels % groups):
        raise ValueError(f"groups={groups}: must be a divisor of channels={channels}, or None")
