"""The two towers of the image–text model: they embed noisy images and captions so that inner products are logits."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from vdm.networks.classifier import ResidualClassifier
from vdm.networks.convolution import check_images
from vdm.networks.normalization import check_groups
from vdm.networks.text import TextEncoder

FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0
"""Initial and largest scale of the inner products (Radford et al. 2021, §2.5)."""
LEAST_LENGTH = 1e-6
"""Smallest length that a vector is divided by."""


class TwoTowers(nn.Module):
    """Noise-aware CLIP: embeddings f(z, γ) of noisy images and g(y) of captions, of shape (batch, features) each.

    See Radford et al. (2021) and Nichol et al. (2022, §2.4). The image tower is the residual network of the classifier,
    `ResidualClassifier`, with features in place of logits. The text tower is `TextEncoder` followed by a linear map of
    its vector of the whole caption. g has length 1; f has the length of a learned scale exp(τ), at most 100, so that
    scale is included in the logits ⟨f, g⟩.

    Parameters are float32. With dtype bfloat16, the blocks of the image tower compute in bfloat16.

    >>> import jax
    >>> network = TwoTowers(257, features=16, channels=8, depth=1, text_channels=8, text_depth=1)
    >>> z, text = jnp.ones((3, 8, 8, 1)), jnp.array([[5, 7, 0], [6, 0, 0]])
    >>> logits, _ = network.init_with_output(jax.random.key(0), z, jnp.zeros(3), text)
    >>> logits.shape, bool((abs(logits) < 14.3).all())
    ((3, 2), True)
    """

    vocabulary: int | None
    """Number of distinct tokens of captions; None if captions are states of a frozen encoder."""
    features: int
    channels: int
    depth: int
    text_channels: int
    text_depth: int
    gamma_min: float = -13.3
    """Value of γ that the embedding maps to time 0."""
    gamma_max: float = 5.0
    """Value of γ that the embedding maps to time 1."""
    dropout: float = 0.0
    """Dropout rate of the image tower. The text tower has no dropout, so equal captions have equal vectors."""
    groups: int | None = None
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.image_tower = ResidualClassifier(
            classes=self.features,
            channels=self.channels,
            depth=self.depth,
            gamma_min=self.gamma_min,
            gamma_max=self.gamma_max,
            dropout=self.dropout,
            groups=self.groups,
            dtype=self.dtype,
            out_init=nn.initializers.lecun_normal(),
        )
        self.text_encoder = TextEncoder(self.vocabulary, self.text_channels, self.text_depth)
        self.text_out = nn.Dense(self.features)
        self.log_scale = self.param("log_scale", nn.initializers.constant(math.log(FIRST_SCALE)), ())

    def __call__(
        self,
        z: Float[Array, "images height width channels"],
        gamma: Float[Array, ""] | Float[Array, " images"],
        text: Integer[Array, "texts length"] | Float[Array, "texts rows size"],
        train: bool = False,
    ) -> Float[Array, "images texts"]:
        """Return the logits of each image with each caption."""
        return self.image(z, gamma, train) @ self.text(text).T

    def image(
        self,
        z: Float[Array, "batch height width channels"],
        gamma: Float[Array, ""] | Float[Array, " batch"],
        train: bool = False,
    ) -> Float[Array, "batch features"]:
        """Return f(z, γ) in float32. With `train`, dropout draws from the random stream "dropout"."""
        scale = jnp.exp(jnp.minimum(self.log_scale, math.log(LARGEST_SCALE)))
        return scale * unit(self.image_tower(z, gamma, train))

    def text(
        self, text: Integer[Array, "batch length"] | Float[Array, "batch rows size"]
    ) -> Float[Array, "batch features"]:
        """Return g(y) in float32."""
        return unit(self.text_out(self.text_encoder(text).pooled))


def unit(x: Float[Array, "batch features"]) -> Float[Array, "batch features"]:
    """Normalize rows to length 1, except those shorter than `LEAST_LENGTH`; differentiable at 0 too.

    >>> unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    squares = jnp.sum(jnp.square(x), axis=1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squares, LEAST_LENGTH**2))


def towers(
    vocabulary: int | None = None,
    features: int = 64,
    channels: int = 32,
    depth: int = 2,
    text_channels: int = 64,
    text_depth: int = 2,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    shape: tuple[int, ...] | None = None,
    dropout: float = 0.0,
    groups: int | None = None,
    dtype: str = "float32",
) -> TwoTowers:
    """Make a residual network for images and a transformer for captions, as named in a config: see `TwoTowers`.

    Raises ValueError for sizes that do not fit together, and for a `shape` that is not that of images.

    >>> towers(vocabulary=257, features=32).features
    32
    """
    if shape is not None:
        check_images(shape)
    check_groups(groups, channels)
    return TwoTowers(
        vocabulary=vocabulary,
        features=features,
        channels=channels,
        depth=depth,
        text_channels=text_channels,
        text_depth=text_depth,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        dropout=dropout,
        groups=groups,
        dtype=jnp.dtype(dtype),
    )
