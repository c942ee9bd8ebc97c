"""PyTorch's bicubic resizing along one axis, as a matrix; an image is multiplied by one matrix on each side."""

import numpy as np
from jaxtyping import Float


def cubic(x: Float[np.ndarray, "*shape"], slope: float) -> Float[np.ndarray, "*shape"]:
    """The piecewise cubic kernel of Keys (1981, Eq. 4), with derivative `slope` at 1; 0 beyond 2."""
    x = np.abs(x)
    inside = ((slope + 2) * x - (slope + 3)) * x * x + 1
    outside = slope * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, inside, np.where(x < 2, outside, 0.0))


def antialiased(before: int, after: int) -> Float[np.ndarray, "after before"]:
    """Return the weights of `before` values in each of `after` values spaced evenly over the same length.

    Each row sums to 1. The weights are those of `torch.nn.functional.interpolate(mode="bicubic", antialias=True)`, and
    of Pillow's BICUBIC before it rounds: a kernel of slope −½, wider when downsampling, and cut off at the ends.

    >>> antialiased(2, 4).round(3).tolist()[0]
    [1.088, -0.088]
    """
    scale = before / after
    width = max(scale, 1.0)
    centers = scale * (np.arange(after)[:, None] + 0.5)
    at = np.arange(before)[None]
    # Integer truncation decides which values a row uses: one at the very edge of the kernel has no weight.
    first = np.maximum(np.trunc(centers - 2 * width + 0.5), 0)
    behind = np.minimum(np.trunc(centers + 2 * width + 0.5), before)
    weights = cubic((at - centers + 0.5) / width, -0.5) * ((at >= first) & (at < behind))
    return weights / weights.sum(axis=1, keepdims=True)


def interpolated(before: int, after: int, step: float) -> Float[np.ndarray, "after before"]:
    """Return the weights of `before` values in each of `after` values that are `step` apart.

    Each row sums to 1. The weights are those of
    `torch.nn.functional.interpolate(mode="bicubic", scale_factor=1 / step)`: a kernel of slope −¾ over four values,
    with the last value repeated beyond the ends.

    >>> interpolated(3, 2, 1.5).round(3).tolist()[0]
    [0.773, 0.262, -0.035]
    """
    centers = step * (np.arange(after) + 0.5) - 0.5
    weights = np.zeros((after, before))
    for offset in range(-1, 3):
        at = np.floor(centers) + offset
        np.add.at(weights, (np.arange(after), np.clip(at, 0, before - 1).astype(int)), cubic(centers - at, -0.75))
    return weights
