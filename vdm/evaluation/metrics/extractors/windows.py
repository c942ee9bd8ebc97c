"""Convolutions and pools of any window, forward only, in forms that a CPU computes well."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vdm.networks.convolution import DIMENSIONS

WINDOW = (3, 3)
"""Of all pools."""


def convolve(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns inputs outputs"],
    stride: int = 1,
    padding: str = "SAME",
) -> Float[Array, "batch _ _ outputs"]:
    """The convolution; `padding` is "SAME" (with zeros) or "VALID"."""
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


def average_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    """The mean of each pixel and its neighbours: at an edge, of as many as there are, which is TensorFlow's way."""
    return nn.avg_pool(x, WINDOW, (1, 1), "SAME", count_include_pad=False)


def max_pool(
    x: Float[Array, "batch height width channels"], stride: int = 1, padding: str = "SAME"
) -> Float[Array, "batch _ _ channels"]:
    """The maximum of 3 × 3 pixels."""
    return nn.max_pool(x, WINDOW, (stride, stride), padding)
