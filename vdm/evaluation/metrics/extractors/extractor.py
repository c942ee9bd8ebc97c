"""What an extractor of features is: a pure function of images and its weights, with a name for what it computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt8

UINT8 = np.dtype(np.uint8)
Apply = Callable[[Any, Array, tuple[str, ...]], dict[str, Array]]


@dataclass(frozen=True)
class Extractor:
    """Features of integer images.

    A constructor of it, registered as a part of kind "extractor", is all that a new one takes. It is given what it has
    a parameter for: `levels` of the images, `weights`, a file or folder of them, and `classifier`, which opens the one
    of the data.
    """

    title: str
    """As tables have it: "Inception-v3"."""
    identity: str
    """All that a feature depends on beside the image, in words: network, checksum of the weights, resizing. Features
    of different identities are never compared."""
    outputs: Mapping[str, int]
    """How many features each of its outputs has, by the output's name."""
    variables: Any
    """The weights: a pytree of arrays."""
    apply: Apply
    """(variables, images, outputs) -> features by output, float32 (batch, features). Pure, and jitted by the caller;
    images are uint8 (batch, height, width, channels), `outputs` the names of those wanted, a static tuple."""
    shape: tuple[int, ...] | None = None
    """The only (height, width, channels) that it takes; None: any."""
    dtype: np.dtype = UINT8
    """Of the images: float32 where they are of real numbers."""


def eight_bit(images: UInt8[ArrayLike, "batch height width channels"], levels: int) -> Float[Array, "batch _ _ 3"]:
    """Values of 0 … levels − 1 as whole numbers of 0 … 255, as a PNG file has them; grey images in three channels.

    ValueError for images of another number of channels than one or three.

    >>> eight_bit(jnp.array([0, 8, 16], jnp.uint8).reshape(1, 1, 3, 1), levels=17)[0, 0, :, 0].tolist()
    [0.0, 128.0, 255.0]
    """
    channels = np.shape(images)[-1]
    if channels not in (1, 3):
        raise ValueError(f"images: have {channels} channels; must have 1 (grey) or 3 (colour)")
    values = jnp.round(jnp.asarray(images).astype(jnp.float32) * jnp.float32(255 / (levels - 1)))
    return jnp.repeat(values, 3, axis=-1) if channels == 1 else values
