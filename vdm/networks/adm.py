"""The U-Net of Ho et al. (2020) and Dhariwal & Nichol (2021), which halves the resolution from level to level."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.networks import text
from vdm.networks.attention import SelfAttention, check_heads
from vdm.networks.convolution import Conv, check_images
from vdm.networks.embeddings import embedded, fourier_exponents, fourier_features
from vdm.networks.normalization import Norm, check_groups, whole

LARGEST_ATTENDED = 32
"""Longest side in pixels with attention by default; its cost grows with the square of the number of pixels."""

Resample = Literal["half", "double"] | None


class ADM(nn.Module):
    """A U-Net with several resolutions that returns z + h([z, Fourier features of z], γ), or h alone.

    Input and output have shape (batch, height, width, channels). There is one level per multiplier, each with half the
    height and width of the one before. On the way down, a level has `depth` residual blocks with `channels` times its
    multiplier channels. On the way up it has one block more, and each also sees the output of its counterpart on the
    way down. The condition scales and shifts the output of the second normalization of a residual block (AdaGN). The
    last layer is initialized to zero, so the output is z, or 0, at first. Raises ValueError unless height and width are
    multiples of 2^(levels − 1).

    With dtype bfloat16, the same parts as in `UNet` stay float32.

    >>> import jax
    >>> network = ADM(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0, multipliers=(1, 2), attention_at=(2,))
    >>> z = jnp.ones((2, 4, 4, 1))
    >>> params = network.init(jax.random.key(0), z, jnp.zeros(2))
    >>> network.apply(params, z, jnp.zeros(2)).shape
    (2, 4, 4, 1)
    """

    channels: int
    depth: int
    """Number of residual blocks per level on the way down."""
    gamma_min: float
    """Value of γ that the embedding maps to time 0. Constant, even if the schedule is learned."""
    gamma_max: float
    """Value of γ that the embedding maps to time 1."""
    multipliers: Sequence[int] = (1, 2, 3, 4)
    """Factor on `channels` at each level, starting at full resolution."""
    attention_at: Sequence[int] = (32, 16, 8)
    """Longer sides in pixels at which attention follows each residual block; the middle always has attention."""
    up_down: str = "resblock"
    """The resolution changes in a residual block, as in BigGAN (Brock et al. 2019), or by a convolution ("conv")."""
    heads: int = 1
    """Attention heads for `channels` channels; a level with n times as many has n times the heads, of the same size."""
    fourier: Sequence[int] = (7, 8)
    """Exponents n of the input features sin(2ⁿπz), cos(2ⁿπz): (7, 8) for 8-bit data, see `fourier_exponents`."""
    dropout: float = 0.0
    groups: int | None = None
    """Number of groups of every group normalization; None chooses it by `num_groups`."""
    residual: bool = True
    """Whether z is added to the output."""
    classes: int | None = None
    """Number of classes, for a network conditioned on labels."""
    vocabulary: int | None = None
    """Number of distinct tokens, for a network conditioned on tokenized captions."""
    text_channels: int = text.CHANNELS
    """Width of the transformer that encodes captions."""
    text_depth: int = text.DEPTH
    """Number of blocks of the transformer that encodes captions."""
    dtype: DTypeLike = jnp.float32
    """Computation dtype of the blocks."""
    remat: bool = False
    """Whether the backward pass recomputes each block from its input instead of storing its activations."""

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "batch height width channels"],
        gamma: Float[Array, ""] | Float[Array, " batch"],
        condition: Any = None,
        train: bool = False,
    ) -> Float[Array, "batch height width channels"]:
        """Return the prediction, e.g. the noise ε̂. With `train`, dropout draws from the random stream "dropout".

        A condition is added to the embedding of γ, and the tokens of a caption join the keys and values of attention:
        see `embedded`.
        """
        _check_sides(z.shape[1:3], len(self.multipliers))
        cond, context = embedded(
            gamma,
            condition,
            z.shape[0],
            ends=(self.gamma_min, self.gamma_max),
            frequencies=self.channels,
            size=4 * self.channels,
            classes=self.classes,
            text=text.TextEncoder(self.vocabulary, self.text_channels, self.text_depth, name="text"),
        )
        # Argument 3 is `train`, as 0 is self.
        residual_block = nn.remat(AdaptiveBlock, static_argnums=(3,)) if self.remat else AdaptiveBlock
        self_attention = nn.remat(SelfAttention) if self.remat else SelfAttention

        def block(h: Array, width: int, name: str, resample: Resample = None) -> Array:
            return residual_block(width, self.dropout, self.groups, self.dtype, resample, name=name)(h, cond, train)

        def attention(h: Array, name: str) -> Array:
            heads = self.heads * h.shape[-1] // self.channels
            return self_attention(heads, self.groups, self.dtype, name=f"{name}_attention")(h, context)

        def block_of_level(h: Array, width: int, name: str) -> Array:
            h = block(h, width, name)
            return attention(h, name) if max(h.shape[1:3]) in self.attention_at else h

        def resampled(h: Array, name: str, to: Literal["half", "double"]) -> Array:
            width = h.shape[-1]
            if self.up_down == "resblock":
                return block(h, width, name, to)
            if to == "half":
                return Conv(width, self.dtype, stride=2, name=name)(h, train)
            return Conv(width, self.dtype, name=name)(doubled(h), train)

        widths = [self.channels * multiplier for multiplier in self.multipliers]
        levels = list(enumerate(widths))
        h = jnp.concatenate([z, fourier_features(z, self.fourier)], axis=-1)
        h = Conv(widths[0], name="conv_in")(h, train).astype(self.dtype)
        skips = [h]
        for level, width in levels:
            if level > 0:
                h = resampled(h, f"down_{level}", "half")
                skips.append(h)
            for i in range(self.depth):
                h = block_of_level(h, width, f"down_{level}_{i}")
                skips.append(h)

        h = block(h, widths[-1], "middle_0")
        h = attention(h, "middle")
        h = block(h, widths[-1], "middle_1")

        for level, width in reversed(levels):
            for i in range(self.depth + 1):
                h = block_of_level(jnp.concatenate([h, skips.pop()], axis=-1), width, f"up_{level}_{i}")
            if level > 0:
                h = resampled(h, f"up_{level}", "double")

        h = Norm(self.groups, name="norm_out")(h)
        h = Conv(z.shape[-1], kernel_init=nn.initializers.zeros, name="conv_out")(h, train)
        return z + h if self.residual else h


class AdaptiveBlock(nn.Module):
    """A residual block x + conv(dropout(swish((1 + a) norm(conv(swish(norm(x)))) + b))), with (a, b) = linear(cond).

    The second convolution and the linear map are initialized to zero. With `resample`, x and the input of the first
    convolution are halved or doubled in height and width.
    """

    channels: int
    dropout: float
    groups: int | None = None
    dtype: DTypeLike = jnp.float32
    resample: Resample = None

    @nn.compact
    def __call__(self, x: Array, cond: Array, train: bool) -> Array:
        x = whole(x)
        groups, dtype, zeros = self.groups, self.dtype, nn.initializers.zeros
        h = Norm(groups, dtype=dtype, name="norm_0")(x)
        if self.resample is not None:
            change = halved if self.resample == "half" else doubled
            x, h = change(x), change(h)
        h = Conv(self.channels, dtype, name="conv_0")(h, train)
        modulation = nn.Dense(2 * self.channels, kernel_init=zeros, dtype=dtype, name="condition")(cond)
        more, beside = jnp.split(modulation, 2, axis=-1)
        h = Norm(groups, dropout=self.dropout, dtype=dtype, name="norm_1")(h, train=train, modulation=(more, beside))
        h = Conv(self.channels, dtype, zeros, name="conv_1")(h, train)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, dtype=dtype, name="shortcut")(x)
        return x + h


def halved(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """Average each block of 2×2 pixels."""
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def doubled(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """Repeat each pixel as a block of 2×2."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def adm(
    channels: int = 192,
    depth: int = 3,
    multipliers: tuple[int, ...] = (1, 2, 3, 4),
    attention_at: tuple[int, ...] | None = None,
    up_down: Literal["resblock", "conv"] = "resblock",
    heads: int = 1,
    groups: int | None = None,
    dropout: float = 0.0,
    fourier: tuple[int, ...] | None = None,
    residual: bool = True,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    shape: tuple[int, ...] = (64, 64, 3),
    levels: int = 256,
    classes: int | None = None,
    vocabulary: int | None = None,
    text_channels: int = text.CHANNELS,
    text_depth: int = text.DEPTH,
    dtype: str = "float32",
    remat: bool = False,
) -> ADM:
    """Make the multi-resolution U-Net of Dhariwal & Nichol (2021), as named in a config: see `ADM`.

    Without `attention_at`, there is attention where the longer side has 32 pixels or fewer. `heads` is the number for
    `channels` channels: 3 for 192 channels give heads of 64 channels at every level. Without `fourier`, the exponents
    of the input features are chosen for data with `levels` values. Raises ValueError for sizes that do not fit together
    or do not fit the images.

    >>> adm(channels=8, depth=1, multipliers=(1, 2), shape=(8, 8, 1), levels=17).attention_at
    (8, 4)
    """
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"multipliers={multipliers}: must be whole numbers from 1, one for each level")
    check_images(shape)
    _check_sides(shape[:2], len(multipliers))
    sides = tuple(max(shape[:2]) >> level for level in range(len(multipliers)))
    if attention_at is None:
        attention_at = tuple(side for side in sides if side <= LARGEST_ATTENDED)
    if not set(attention_at) <= set(sides):
        raise ValueError(f"attention_at={attention_at}: must be among the sides of the levels, {sides}")
    check_heads(heads, channels)
    check_groups(groups, channels)
    return ADM(
        channels=channels,
        depth=depth,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        multipliers=multipliers,
        attention_at=attention_at,
        up_down=up_down,
        heads=heads,
        fourier=fourier_exponents(levels) if fourier is None else fourier,
        dropout=dropout,
        groups=groups,
        residual=residual,
        classes=classes,
        vocabulary=vocabulary,
        text_channels=text_channels,
        text_depth=text_depth,
        dtype=jnp.dtype(dtype),
        remat=remat,
    )


def _check_sides(sides: Sequence[int], levels: int) -> None:
    times = 2 ** (levels - 1)
    if math.gcd(times, *sides) < times:
        size = "×".join(map(str, sides))
        raise ValueError(f"multipliers: {levels} need a height and width that are multiples of {times}; found {size}")
