"""Linear operators A of inverse problems y = A x + noise, for x in [−1, 1].

    blur, downsample, gray    of images (height, width, channels)
    missing, box, mask        measure some of the values of x and nothing else: those that are `known`

Operators are pure functions of a batch that act on each example separately. `adjoint` gives Aᵀ, by JAX's transposition.
"""

from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

REACH = 4
"""Standard deviations at which a Gaussian kernel is cut off."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance (ITU-R BT.601), which sum to 1."""


class Operator(NamedTuple):
    """A linear operator A as a pure function of a batch."""

    apply: Callable[[Float[Array, "batch *data"]], Float[Array, "batch *measured"]]
    """x -> A x, linear in x and separate for each example."""
    shape: tuple[int, ...]
    """Shape of the data of one example."""
    measured: tuple[int, ...]
    """Shape of the measurement of one example."""
    known: Bool[Array, "*data"] | None = None
    """If A only picks values of x: which ones. A x then equals x there, and 0 elsewhere."""


def adjoint(operator: Operator, y: Float[Array, "batch *measured"]) -> Float[Array, "batch *data"]:
    """Aᵀ y, with shape (batch, *data).

    >>> adjoint(mask(jnp.array([True, False])), jnp.ones((1, 2))).tolist()
    [[1.0, 0.0]]
    """
    like = jax.ShapeDtypeStruct((y.shape[0], *operator.shape), y.dtype)
    (x,) = jax.linear_transpose(operator.apply, like)(y)
    return jnp.asarray(x)


def measure(
    operator: Operator, x: Float[Array, "batch *data"], noise: Float[Array, "batch *measured"], std: ArrayLike
) -> Float[Array, "batch *measured"]:
    """y = A x + std · noise, with 0 where nothing is measured.

    >>> measure(mask(jnp.array([True, False])), jnp.ones((1, 2)), jnp.ones((1, 2)), 0.5).tolist()
    [[1.5, 0.0]]
    """
    scaled = jnp.asarray(std, x.dtype) * noise
    return operator.apply(x) + (scaled if operator.known is None else operator.apply(scaled))


def num_measured(operator: Operator) -> int:
    """Number of values measured of one example.

    >>> num_measured(mask(jnp.array([True, False])))
    1
    """
    return int(np.prod(operator.measured) if operator.known is None else jnp.sum(operator.known))


def mask(known: Bool[Array, "*data"]) -> Operator:
    """Operator that keeps the values of x that are `known` and sets the others to 0.

    >>> mask(jnp.array([True, False])).apply(jnp.ones((1, 2))).tolist()
    [[1.0, 0.0]]
    """
    return Operator(lambda x: jnp.where(known[None], x, 0), known.shape, known.shape, known)


def missing(share: float = 0.5, seed: int = 0, *, shape: tuple[int, ...]) -> Operator:
    """Operator that removes a share of an image's pixels, chosen at random by a seed.

    The same pixels are missing in all images and channels: share · height · width of them, rounded. Raises ValueError
    unless 0 ≤ share < 1, the seed is from 0 to 2³² − 1, and at least one pixel is left.

    >>> missing(0.25, shape=(4, 4, 1)).known.sum().item()
    12
    """
    height, width, _ = _image(shape)
    if not 0 <= share < 1:
        raise ValueError(f"share={share!r}: must be at least 0 and below 1")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: must be from 0 to 2**32 - 1")
    num = round(share * height * width)
    if num == height * width:
        raise ValueError(f"share={share!r}: leaves none of {height * width} pixels")
    order = jax.random.permutation(jax.random.key(seed), height * width)
    return _pixels((order >= num).reshape(height, width), shape)


def box(size: int = 4, *, shape: tuple[int, ...]) -> Operator:
    """Operator that removes a square of `size` × `size` pixels in the middle of an image.

    Raises ValueError unless the square is at least 1 pixel wide and smaller than the image.

    >>> box(2, shape=(4, 4, 1)).known[..., 0].sum(axis=0).tolist()
    [4, 2, 2, 4]
    """
    height, width, _ = _image(shape)
    if not 1 <= size < min(height, width):
        raise ValueError(f"size={size!r}: must be from 1 to {min(height, width) - 1} pixels of images {height}×{width}")
    top, left = (height - size) // 2, (width - size) // 2
    return _pixels(jnp.ones((height, width), bool).at[top : top + size, left : left + size].set(False), shape)


def blur(std: float = 2.0, *, shape: tuple[int, ...]) -> Operator:
    """Gaussian blur of standard deviation `std` in pixels, with the image mirrored beyond its edges.

    The Gaussian is evaluated at whole pixels, cut off at 4 `std`, and normalized to sum 1, so that constant images are
    unchanged. The mirror axis lies between two pixels, so A = Aᵀ and the mean of an image is unchanged too. Raises
    ValueError unless 0 < std ≤ the longer side.

    >>> blur(1.0, shape=(5, 5, 1)).apply(jnp.ones((1, 5, 5, 1))).round(4).max().item()
    1.0
    """
    height, width, _ = _image(shape)
    if isinstance(std, bool) or not isinstance(std, Real) or not 0 < std <= max(height, width):
        raise ValueError(f"std={std!r}: must be above 0 and at most {max(height, width)} pixels, the longer side")
    rows, columns = (jnp.asarray(_mirrored(std, side), jnp.float32) for side in (height, width))

    def apply(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision="highest")

    return Operator(apply, shape, shape)


def downsample(factor: int = 2, *, shape: tuple[int, ...]) -> Operator:
    """Averages of blocks of `factor` × `factor` pixels: the operator that superresolution inverts.

    Raises ValueError unless `factor` is 2 or more and divides height and width.

    >>> downsample(2, shape=(2, 4, 1)).apply(jnp.arange(8.0).reshape(1, 2, 4, 1)).ravel().tolist()
    [2.5, 4.5]
    """
    height, width, channels = _image(shape)
    if factor < 2 or height % factor or width % factor:
        raise ValueError(f"factor={factor!r}: must be 2 or more and divide the sides of images {height}×{width}")
    measured = (height // factor, width // factor, channels)

    def apply(
        x: Float[Array, "batch height width channels"],
    ) -> Float[Array, "batch rows columns channels"]:
        return x.reshape(x.shape[0], measured[0], factor, measured[1], factor, channels).mean(axis=(2, 4))

    return Operator(apply, shape, measured)


def gray(*, shape: tuple[int, ...]) -> Operator:
    """Luminance of an RGB image, 0.299 R + 0.587 G + 0.114 B: the operator that colorization inverts.

    Raises ValueError unless images have three channels.

    >>> gray(shape=(1, 1, 3)).apply(jnp.ones((1, 1, 1, 3))).shape
    (1, 1, 1, 1)
    """
    height, width, channels = _image(shape)
    if channels != 3:
        raise ValueError(f"images have {channels} channel{'s' * (channels != 1)}: must have 3, red, green and blue")
    weights = jnp.asarray(LUMINANCE, jnp.float32)

    def apply(x: Float[Array, "batch height width 3"]) -> Float[Array, "batch height width 1"]:
        return jnp.einsum("c,bhwc->bhw", weights, x, precision="highest")[..., None]

    return Operator(apply, shape, (height, width, 1))


def _pixels(known: Bool[Array, "height width"], shape: tuple[int, ...]) -> Operator:
    return mask(jnp.broadcast_to(known[..., None], shape))


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise ValueError(f"data have shape {tuple(shape)}: must be images (height, width, channels)")
    return shape


def _mirrored(std: float, side: int) -> Float[np.ndarray, "side side"]:
    """Blur matrix: row i is the Gaussian about pixel i, folded back at the edges, …, 1, 0 | 0, 1, …, n−1 | n−1, …."""
    reach = max(1, int(np.ceil(REACH * std)))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * np.square(offsets / std))
    places = np.mod(np.arange(side)[:, None] + offsets, 2 * side)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], np.minimum(places, 2 * side - 1 - places)), weights / weights.sum())
    return matrix
