"""Bilinear resizing as in TensorFlow 1, on which FID's numbers depend."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def tf1_bilinear(
    images: Float[Array, "batch _ _ channels"], height: int, width: int
) -> Float[Array, "batch {height} {width} channels"]:
    """Resize images: pixel i of n is interpolated at position i · (size before) / n, between its two neighbors.

    Positions are those of the pixels' corners rather than centers, so that images shift by part of a pixel, and nothing
    is averaged when downsampling: flaws that FID's published numbers contain (Parmar, Zhang and Zhu, 2022).

    >>> tf1_bilinear(jnp.array([0.0, 8.0]).reshape(1, 1, 2, 1), 1, 4)[0, 0, :, 0].tolist()
    [0.0, 4.0, 8.0, 8.0]
    """
    return _along(_along(images, 2, width), 1, height)


def _along(x: Array, axis: int, size: int) -> Array:
    before = x.shape[axis]
    # In float32, as TensorFlow rounds the positions.
    position = np.arange(size, dtype=np.float32) * np.float32(before / size)
    low = position.astype(np.int32)
    share = (position - low).reshape([-1 if k == axis else 1 for k in range(x.ndim)])
    first, second = (jnp.take(x, np.minimum(i, before - 1), axis, mode="clip") for i in (low, low + 1))
    return first + (second - first) * share
