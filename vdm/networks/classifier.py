"""The classifier of noisy images: a residual network of decreasing resolution, conditioned on γ like the U-Net."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.networks.convolution import Conv, check_images
from vdm.networks.embeddings import time_embedding
from vdm.networks.normalization import Norm, check_groups
from vdm.networks.unet import ResidualBlock

LEAST_PIXELS = 4
"""Approximate shorter side of the lowest resolution, in pixels."""
MOST_DOUBLINGS = 2
"""How often the number of channels doubles, once at each lower resolution."""


class ResidualClassifier(nn.Module):
    """Class logits of noisy images z at γ: (batch, height, width, channels) in, (batch, classes) out.

    A small version of Dhariwal & Nichol (2021, §4): `depth` residual blocks at each resolution, followed by means over
    2×2 pixels, until the shorter side has about four pixels. The number of channels doubles the first two times. At the
    end come means over all pixels and a linear map, initialized to zero by default, so all classes are equally likely
    at first. Images may have any size.

    Parameters are float32. With dtype bfloat16, the blocks compute in bfloat16; the embedding of γ, the first
    convolution, the last normalization and the logits stay float32.

    >>> import jax
    >>> network = ResidualClassifier(classes=10, channels=8, depth=1, gamma_min=-7.5, gamma_max=5.0)
    >>> z = jnp.ones((2, 8, 8, 1))
    >>> logits, _ = network.init_with_output(jax.random.key(0), z, jnp.zeros(2))
    >>> logits.shape
    (2, 10)
    """

    classes: int
    channels: int
    depth: int
    gamma_min: float
    """Value of γ that the embedding maps to time 0."""
    gamma_max: float
    """Value of γ that the embedding maps to time 1."""
    dropout: float = 0.0
    groups: int | None = None
    """Number of groups of every group normalization; None chooses it by `num_groups`."""
    dtype: DTypeLike = jnp.float32
    """Computation dtype of the blocks."""
    out_init: Initializer = nn.initializers.zeros
    """Initializer of the last linear map."""

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "batch height width channels"],
        gamma: Float[Array, ""] | Float[Array, " batch"],
        train: bool = False,
    ) -> Float[Array, "batch classes"]:
        """Return float32 logits. With `train`, dropout draws from the random stream "dropout"."""
        time = (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        embedding = time_embedding(jnp.broadcast_to(time, z.shape[:1]), self.channels)
        cond = nn.swish(nn.Dense(4 * self.channels, name="embed_0")(embedding))
        cond = nn.swish(nn.Dense(4 * self.channels, name="embed_1")(cond))

        h = Conv(self.channels, name="conv_in")(z, train).astype(self.dtype)
        for k in range(num_resolutions(min(z.shape[1:3]))):
            if k > 0:
                h = halved(h)
            channels = self.channels * 2 ** min(k, MOST_DOUBLINGS)
            for i in range(self.depth):
                block = ResidualBlock(channels, self.dropout, self.groups, self.dtype, name=f"block_{k}_{i}")
                h = block(h, cond, train)
        h = jnp.mean(Norm(self.groups, name="norm_out")(h), axis=(1, 2))
        return nn.Dense(self.classes, kernel_init=self.out_init, name="out")(h)


def halved(h: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """Average blocks of 2×2 pixels; at the end of an odd side, average the pixels that are left.

    >>> halved(jnp.arange(3.0).reshape(1, 3, 1, 1)).ravel().tolist()
    [0.5, 2.0]
    """
    batch, height, width, channels = h.shape
    h = jnp.pad(h, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return jnp.mean(h.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, channels), axis=(2, 4))


def num_resolutions(side: int) -> int:
    """Return the number of resolutions, each half the one before, for images with a shorter side of `side` pixels.

    >>> [num_resolutions(side) for side in (1, 4, 8, 32)]
    [1, 1, 2, 4]
    """
    return max(round(math.log2(side / LEAST_PIXELS)), 0) + 1


def residual(
    classes: int,
    channels: int = 32,
    depth: int = 2,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    shape: tuple[int, ...] | None = None,
    dropout: float = 0.0,
    groups: int | None = None,
    dtype: str = "float32",
) -> ResidualClassifier:
    """Make a residual network of decreasing resolution, as named in a config: see `ResidualClassifier`.

    Raises ValueError for sizes that do not fit together, and for a `shape` that is not that of images.

    >>> residual(classes=10, channels=16).depth
    2
    """
    if shape is not None:
        check_images(shape)
    check_groups(groups, channels)
    return ResidualClassifier(
        classes=classes,
        channels=channels,
        depth=depth,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        dropout=dropout,
        groups=groups,
        dtype=jnp.dtype(dtype),
    )
