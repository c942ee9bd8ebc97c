"""Convolutions and pooling with any window, forward only, in forms that are fast on CPUs too."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vdm.networks.convolution import DIMENSIONS


def convolve(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    stride: int = 1,
    padding: str = "SAME",
) -> Float[Array, "batch _ _ outputs"]:
    """Convolve; `padding` is "SAME" (with zeros) or "VALID" (none, so fewer pixels)."""
    rows, columns = kernel.shape[:2]
    if (rows, columns) == (1, 1):
        return jnp.einsum("nhwi,io->nhwo", x, kernel[0, 0])
    if stride == 1 and padding == "VALID":
        # On CPUs, XLA takes a quarter of the time with padding, which saves more than the dropped pixels cost.
        return _inner(_inner(convolve(x, kernel), 1, rows // 2), 2, columns // 2)
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


def _inner(x: Array, axis: int, edge: int) -> Array:
    return jax.lax.slice_in_dim(x, edge, x.shape[axis] - edge, axis=axis)


def average_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    """Return the mean of 3 × 3 pixels; at an edge, as in TensorFlow, of those that exist."""
    rows, columns = (np.convolve(np.ones(size, np.float32), np.ones(3, np.float32), "same") for size in x.shape[1:3])
    weight = jnp.asarray(1 / np.outer(rows, columns))
    return _three_by_three(jnp.add, _padded(x, 0.0), 1) * weight[None, :, :, None]


def max_pool(
    x: Float[Array, "batch height width channels"], stride: int = 1, padding: str = "SAME"
) -> Float[Array, "batch _ _ channels"]:
    """Return the maximum of 3 × 3 pixels; `padding` is as in `convolve`, but with −∞."""
    return _three_by_three(jnp.maximum, _padded(x, -jnp.inf) if padding == "SAME" else x, stride)


def _padded(x: Array, value: float) -> Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=value)


def _three_by_three(combine: Callable[[Array, Array], Array], x: Array, stride: int) -> Array:
    """Combine along one axis, then the other: XLA's own windows take eight times as long on a CPU."""
    for axis in (1, 2):
        last = (x.shape[axis] - 3) // stride * stride
        shifted = (jax.lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(3))
        x = functools.reduce(combine, shifted)
    return x
