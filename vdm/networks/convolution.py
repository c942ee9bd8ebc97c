"""The 3×3 convolution, with gradients that are fast on a CPU."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

PIXELS = 4096
"""Most pixels per device that a kernel's gradient is summed over at a time, so that they fit into its caches."""


def check_images(shape: Sequence[int]) -> None:
    """Raise ValueError unless `shape` is (height, width, channels)."""
    if len(shape) != 3:
        raise ValueError(f"shape={tuple(shape)}: must be (height, width, channels), of images")


class Conv(nn.Module):
    """A 3×3 convolution with bias and zero padding, like `flax.linen.Conv` but faster to train on a CPU.

    >>> conv = Conv(8)
    >>> x = jnp.ones((2, 4, 4, 3))
    >>> conv.apply(conv.init(jax.random.key(0), x), x).shape
    (2, 4, 4, 8)
    """

    channels: int
    dtype: DTypeLike = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    stride: int = 1
    """Stride in pixels; unless it is 1, gradients are JAX's own."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width inputs"], train: bool = False
    ) -> Float[Array, "batch rows columns channels"]:
        """Return the convolution in `dtype`. With `train`, only reverse-mode differentiation is possible."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        x, kernel, bias = (value.astype(self.dtype) for value in (x, kernel, bias))
        in_training = train and self.stride == 1
        y = convolve_in_training(x, kernel) if in_training else convolve(x, kernel, self.stride)
        return y + bias[None, None, None, :]


def convolve(
    x: Float[Array, "batch height width inputs"], kernel: Float[Array, "3 3 inputs outputs"], stride: int = 1
) -> Float[Array, "batch rows columns outputs"]:
    """Convolve x, padded with zeros, at every `stride`-th pixel."""
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=DIMENSIONS)


@jax.custom_vjp
def convolve_in_training(
    x: Float[Array, "batch height width inputs"], kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "batch height width outputs"]:
    """`convolve` with `cpu_gradients` as its backward pass on a CPU, and JAX's own elsewhere."""
    return convolve(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(inputs: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    gradients: tuple[Array, Array] = jax.lax.platform_dependent(
        *inputs, dy, cpu=cpu_gradients, default=lambda x, kernel, dy: jax.vjp(convolve, x, kernel)[1](dy)
    )
    return gradients


convolve_in_training.defvjp(_forward, _backward)


def cpu_gradients(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "3 3 inputs outputs"],
    dy: Float[Array, "batch height width outputs"],
) -> tuple[Float[Array, "batch height width inputs"], Float[Array, "3 3 inputs outputs"]]:
    """Return (∂L/∂x, ∂L/∂kernel) for dy = ∂L/∂y, as convolutions of the form for which XLA has fast code on CPUs.

    JAX relies on the compiler to bring them to that form. Inside a loop it does not, and they take up to a hundred
    times as long. The kernel's gradient, a sum over all images, is faster when computed for a few images at a time.
    """
    # Without the barrier, the computation of dy would be repeated in each part.
    x, dy = jax.lax.optimization_barrier((x, dy))
    dx = convolve(dy, kernel[::-1, ::-1].swapaxes(2, 3))
    batch, height, width, _ = x.shape
    share = batch // math.gcd(batch, jax.device_count())
    images = next(n for n in range(share, 0, -1) if share % n == 0 and (n == 1 or n * height * width <= PIXELS))
    num_parts = share // images

    def images_of(part: int, a: Array) -> Array:
        # Neighbors belong to different parts, so that each part is spread over all devices.
        return a.reshape(-1, num_parts, *a.shape[1:])[:, part]

    def of_part(part: int) -> Array:
        # The channels of x take the place of the batch, and dy that of the kernel.
        lhs, rhs = images_of(part, x).transpose(3, 1, 2, 0), images_of(part, dy).transpose(1, 2, 0, 3)
        by_kernel = jax.lax.conv_general_dilated(lhs, rhs, (1, 1), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)
        # In bfloat16, each part would round the sum once more.
        return by_kernel.astype(jnp.float32)

    total = sum((of_part(part) for part in range(1, num_parts)), of_part(0))
    return dx, total.transpose(1, 2, 0, 3).astype(kernel.dtype)
