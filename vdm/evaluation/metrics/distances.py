"""Squared distances between two sets of features, computed for a block of rows and all columns at a time."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Int

from vdm.evaluation.metrics.metric import Features

BLOCK = 256
"""Rows in a block: with 50 000 columns, it takes 51 MB."""

TIE = 8 * float(np.finfo(np.float32).eps)
"""Distances that differ by less than this share of the squared norms are considered equal up to rounding."""

Center = Float32[np.ndarray, " dims"]


def center(features: Features) -> Center:
    """Return the mean of features: about it, squared norms are about as large as squared distances and cancel least."""
    mean: Center = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def columns(features: Features, about: Center) -> Float32[Array, "n dims"]:
    """Put all features, minus the mean, on the device."""
    return jnp.asarray(features - about)


def blocks(features: Features, about: Center) -> Iterator[tuple[slice, Float32[np.ndarray, "block dims"]]]:
    """Yield (slice of rows, these rows minus the mean), padded with zeros so that all blocks have the same size."""
    size = min(BLOCK, len(features))
    for start in range(0, len(features), size):
        rows = features[start : start + size] - about
        yield slice(start, start + len(rows)), np.pad(rows, ((0, size - len(rows)), (0, 0)))


def squared(
    x: Float[ArrayLike, "n dims"], y: Float[ArrayLike, "m dims"]
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    """Return squared distances and a bound on their rounding errors."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    norms = jnp.sum(jnp.square(x), axis=1)[:, None] + jnp.sum(jnp.square(y), axis=1)[None, :]
    return jnp.maximum(norms - 2 * jnp.matmul(x, y.T, precision="highest"), 0), TIE * norms


def _inside(apart: Array, rounding: Array, radii: Array) -> Bool[Array, "n m"]:
    return apart <= jnp.broadcast_to(radii, apart.shape) + rounding


@jax.jit
def counts_in_balls(x: Array, y: Array, radii: Array) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """Return, for each x, how many y lie within the squared radii, which broadcast to (n, m), and the first such y."""
    inside = _inside(*squared(x, y), radii)
    return inside.sum(axis=1), inside.argmax(axis=1)


@jax.jit
def in_two_balls(
    x: Array, y: Array, radii: Array, larger: Array
) -> tuple[Int[Array, " n"], Int[Array, " n"], Bool[Array, "n m"]]:
    """Return the two of `counts_in_balls`, and which y lie within the larger radii."""
    apart, rounding = squared(x, y)
    inside = _inside(apart, rounding, radii)
    return inside.sum(axis=1), inside.argmax(axis=1), _inside(apart, rounding, larger)


@partial(jax.jit, static_argnames="count")
def _nearest(x: Array, y: Array, start: int | Array, count: int) -> tuple[Array, Array]:
    distances, _ = squared(x, y)
    # An image is its own nearest neighbor, whatever the rounding.
    own = (start + jnp.arange(len(x)))[:, None] == jnp.arange(len(y))[None, :]
    values, indices = jax.lax.top_k(-jnp.where(own, -1.0, distances), count)
    # Return all of them: with a slice here, XLA sorts everything on a CPU, which takes five times as long.
    return values, indices


def neighbours(
    features: Features, count: int, about: Center
) -> tuple[Float32[np.ndarray, "n count"], Int[np.ndarray, "n count"]]:
    """Return the squared distances of each image from its `count` nearest neighbors, nearest first, and their indices.

    Raises ValueError for `count` images or fewer.
    """
    if len(features) <= count:
        raise ValueError(f"images: {len(features)} of them; must be {count + 1} or more")
    y, found = columns(features, about), []
    for rows, x in blocks(features, about):
        of_block = jax.device_get(_nearest(x, y, rows.start, count + 1))
        found.append([array[: rows.stop - rows.start, 1:] for array in of_block])
    negative, indices = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return -negative, indices


@jax.jit
def nearest_column(x: Array, y: Array) -> Int[Array, " n"]:
    """Return the index of the nearest y for each x."""
    return squared(x, y)[0].argmin(axis=1)
