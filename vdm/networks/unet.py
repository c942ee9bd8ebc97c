"""The VDM denoiser: a full-resolution residual network with concatenated skip connections (Kingma et al. 2021, §J)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.networks import text
from vdm.networks.attention import SelfAttention, check_heads
from vdm.networks.convolution import Conv, check_images
from vdm.networks.embeddings import embedded, fourier_exponents, fourier_features
from vdm.networks.normalization import Norm, check_groups, whole

ATTENTION = ("middle", "everywhere")


class UNet(nn.Module):
    """A residual network at full resolution that returns z + h([z, Fourier features of z], γ), or h alone.

    Input and output have shape (batch, height, width, channels), with images of any size and number of channels. The
    network has `depth` residual blocks on the way down and one more on the way up, all at the same resolution; each
    block on the way up also sees the output of its counterpart on the way down. The last layer is initialized to zero,
    so the output is z, or 0, at first.

    Parameters are float32. With dtype bfloat16, the blocks compute in bfloat16, except for normalization statistics and
    softmax. The embedding of γ, the Fourier features, and the first and last convolutions stay float32.

    >>> import jax
    >>> network = UNet(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
    >>> z = jnp.ones((2, 4, 4, 1))
    >>> params = network.init(jax.random.key(0), z, jnp.zeros(2))
    >>> network.apply(params, z, jnp.zeros(2)).shape
    (2, 4, 4, 1)
    """

    channels: int
    depth: int
    gamma_min: float
    """Value of γ that the embedding maps to time 0. Constant, even if the schedule is learned."""
    gamma_max: float
    """Value of γ that the embedding maps to time 1."""
    fourier: Sequence[int] = (7, 8)
    """Exponents n of the input features sin(2ⁿπz), cos(2ⁿπz): (7, 8) for 8-bit data, see `fourier_exponents`."""
    attention: str = "middle"
    """Where there is attention: only in the "middle", or "everywhere", i.e. also after each block down and up."""
    heads: int = 1
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
        residual_block = nn.remat(ResidualBlock, static_argnums=(3,)) if self.remat else ResidualBlock
        self_attention = nn.remat(SelfAttention) if self.remat else SelfAttention

        def block(h: Array, name: str) -> Array:
            h = residual_block(self.channels, self.dropout, self.groups, self.dtype, name=name)(h, cond, train)
            if self.attention == "everywhere" and not name.startswith("middle"):
                h = self_attention(self.heads, self.groups, self.dtype, name=f"{name}_attention")(h, context)
            return h

        h = jnp.concatenate([z, fourier_features(z, self.fourier)], axis=-1)
        h = Conv(self.channels, name="conv_in")(h, train).astype(self.dtype)
        skips = [h]
        for i in range(self.depth):
            h = block(h, f"down_{i}")
            skips.append(h)

        h = block(h, "middle_0")
        h = self_attention(self.heads, self.groups, self.dtype, name="middle_attention")(h, context)
        h = block(h, "middle_1")

        for i in range(self.depth + 1):
            h = block(jnp.concatenate([h, skips.pop()], axis=-1), f"up_{i}")

        h = Norm(self.groups, name="norm_out")(h)
        h = Conv(z.shape[-1], kernel_init=nn.initializers.zeros, name="conv_out")(h, train)
        return z + h if self.residual else h


class ResidualBlock(nn.Module):
    """A residual block x + conv(dropout(swish(norm(conv(swish(norm(x))) + linear(cond))))), the identity at first.

    If the number of channels changes, a linear map of x takes the place of x in the sum.
    """

    channels: int
    dropout: float
    groups: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, cond: Array, train: bool) -> Array:
        x = whole(x)
        groups, dtype, zeros = self.groups, self.dtype, nn.initializers.zeros
        h = Norm(groups, dtype=dtype, name="norm_0")(x)
        h = Conv(self.channels, dtype, name="conv_0")(h, train)
        shift = nn.Dense(self.channels, use_bias=False, kernel_init=zeros, dtype=dtype, name="condition")(cond)
        h = Norm(groups, dropout=self.dropout, dtype=dtype, name="norm_1")(h, shift, train)
        h = Conv(self.channels, dtype, zeros, name="conv_1")(h, train)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, dtype=dtype, name="shortcut")(x)
        return x + h


def unet(
    channels: int = 128,
    depth: int = 32,
    attention: str = "middle",
    heads: int = 1,
    groups: int | None = None,
    dropout: float = 0.0,
    fourier: tuple[int, ...] | None = None,
    residual: bool = True,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    shape: tuple[int, ...] = (32, 32, 3),
    levels: int = 256,
    classes: int | None = None,
    vocabulary: int | None = None,
    text_channels: int = text.CHANNELS,
    text_depth: int = text.DEPTH,
    dtype: str = "float32",
    remat: bool = False,
) -> UNet:
    """Make the full-resolution residual network of Kingma et al. (2021, §J), as named in a config: see `UNet`.

    Without `fourier`, the exponents of the input features are chosen for data with `levels` values. Raises ValueError
    for sizes that do not fit together, and for data that are not images.

    >>> network = unet(channels=8, depth=1, levels=17)
    >>> network.fourier
    (3, 4)
    """
    if attention not in ATTENTION:
        raise ValueError(f"attention={attention!r}: must be one of {', '.join(ATTENTION)}")
    check_images(shape)
    check_heads(heads, channels)
    check_groups(groups, channels)
    return UNet(
        channels=channels,
        depth=depth,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        fourier=fourier_exponents(levels) if fourier is None else fourier,
        attention=attention,
        heads=heads,
        groups=groups,
        dropout=dropout,
        residual=residual,
        classes=classes,
        vocabulary=vocabulary,
        text_channels=text_channels,
        text_depth=text_depth,
        dtype=jnp.dtype(dtype),
        remat=remat,
    )
