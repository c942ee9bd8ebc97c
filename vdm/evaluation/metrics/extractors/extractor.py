"""The interface of a feature extractor: a pure function of images and weights, with a name for what it computes."""

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
    """Features of images: integers, or real numbers if `dtype` is float32.

    To add an extractor, register its constructor as a part of kind "extractor". It is passed those of the following
    that it has a parameter for: `levels` of the images, `weights`, a file or folder of them, and `classifier`, which
    opens the classifier of the data.
    """

    title: str
    """Title for tables, e.g. "Inception-v3"."""
    identity: str
    """Everything that a feature depends on besides the image, as text: network, checksum of the weights, resizing.

    Features with different identities are never compared.
    """
    outputs: Mapping[str, int]
    """The number of features of each output, by its name."""
    variables: Any
    """The weights: a pytree of arrays."""
    apply: Apply
    """(variables, images, outputs) → features by output, float32 (batch, features).

    Pure; the caller jits it. Images are of type `dtype`, usually uint8 (batch, height, width, channels), and `outputs`
    is a static tuple with the names of the outputs wanted.
    """
    shape: tuple[int, ...] | None = None
    """The only (height, width, channels) that it takes. None: any."""
    dtype: np.dtype = UINT8
    """Type of the images: float32 for real numbers."""


def eight_bit(images: UInt8[ArrayLike, "batch height width channels"], levels: int) -> Float[Array, "batch _ _ 3"]:
    """Map values 0 … levels − 1 to whole numbers 0 … 255, as in a PNG file; gray images get three channels.

    Raises ValueError unless images have one or three channels.

    >>> eight_bit(jnp.array([0, 8, 16], jnp.uint8).reshape(1, 1, 3, 1), levels=17)[0, 0, :, 0].tolist()
    [0.0, 128.0, 255.0]
    """
    channels = np.shape(images)[-1]
    if channels not in (1, 3):
        raise ValueError(f"images: have {channels} channels; must have 1 (gray) or 3 (color)")
    values = jnp.round(jnp.asarray(images).astype(jnp.float32) * jnp.float32(255 / (levels - 1)))
    return jnp.repeat(values, 3, axis=-1) if channels == 1 else values
