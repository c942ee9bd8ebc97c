"""Images that their captions determine, the exact image–text model of them at any noise, and one that learns."""

from typing import Any

import classifying
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from classifying import nested
from jax import Array

from vdm.data.texts import fit
from vdm.image_text import ImageText

CAPTIONS = ("a", "b")
TEXT = fit("bytes(length=3)", CAPTIONS)
ENCODED = TEXT(CAPTIONS)
"""Those of `classifying.IMAGES`."""
LIKE = jax.ShapeDtypeStruct((3,), jnp.int32)


class Exact(nn.Module):
    """⟨f, g⟩ = log p(y|z_γ) of images that are one of some patterns, each as often and with a caption of its own."""

    patterns: tuple[Any, ...]
    texts: tuple[Any, ...]
    levels: int

    def setup(self) -> None:
        self.posterior = classifying.Posterior(self.patterns, self.levels)

    def __call__(self, z: Array, gamma: Array, text: Array) -> Array:
        return self.image(z, gamma) @ self.text(text).T

    def image(self, z: Array, gamma: Array, train: bool = False) -> Array:
        return nn.log_softmax(self.posterior(z, gamma))

    def text(self, text: Array) -> Array:
        return jnp.all(text[:, None] == jnp.array(self.texts)[None], axis=2).astype(jnp.float32)


class Small(nn.Module):
    """Linear maps of z, of z where there is little noise, and of the tokens: as little as can learn."""

    dropout: float = 0.1
    features: int = 4
    dtype: Any = None

    def setup(self) -> None:
        self.of_image, self.of_token = nn.Dense(self.features, dtype=self.dtype), nn.Embed(257, self.features)
        self.noise = nn.Dropout(self.dropout)

    def __call__(self, z: Array, gamma: Array, text: Array) -> Array:
        return self.image(z, gamma) @ self.text(text).T

    def image(self, z: Array, gamma: Array, train: bool = False) -> Array:
        z = self.noise(z.reshape(len(z), -1), deterministic=not train)
        gamma = jnp.broadcast_to(gamma, z.shape[:1])[:, None]
        return self.of_image(jnp.concatenate([z, z * nn.sigmoid(-gamma)], axis=1)).astype(jnp.float32)

    def text(self, text: Array) -> Array:
        return jnp.sum(self.of_token(text) * (text != 0)[..., None].astype(jnp.float32), axis=1)


def exact(patterns: np.ndarray = classifying.IMAGES, texts: np.ndarray = ENCODED) -> ImageText:
    """Of these images."""
    network = Exact(nested(patterns), nested(texts), classifying.LEVELS)
    return ImageText(network, patterns.shape[1:], classifying.LEVELS, jax.ShapeDtypeStruct(texts.shape[1:], jnp.int32))


def small(dropout: float = 0.1) -> ImageText:
    """One that is trained in no time."""
    return ImageText(Small(dropout), classifying.SHAPE, classifying.LEVELS, LIKE)
