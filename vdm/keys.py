"""Random streams of a seed, and one key per image: the same numbers on any number of devices and after any restart."""

from collections.abc import Sequence
from enum import IntEnum

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, UInt32

Keys = Key[Array, " batch"]


class Stream(IntEnum):
    """Random streams of a seed: stream s starts from fold_in(key(seed), s)."""

    INIT = 0
    TRAINING = 1
    EVALUATION = 2
    SAMPLING = 3
    LABELS = 4
    AGGREGATE = 5
    MEASUREMENT = 6


def stream_key(seed: int | UInt32[Array, ""], stream: Stream) -> PRNGKeyArray:
    """Return the key that a stream starts from.

    >>> key = stream_key(0, Stream.SAMPLING)
    """
    return jax.random.fold_in(jax.random.key(seed), int(stream))


def image_keys(key: PRNGKeyArray, num: int, first: int | Array = 0) -> Keys:
    """Return one key per image, fold_in(key, first + k).

    Fold 0 of such a key is for z₁, folds 1 … T are for the steps, and fold T + 1 is for decoding z₀.

    >>> key = jax.random.key(0)
    >>> bool((image_keys(key, 2, first=3) == image_keys(key, 5)[3:]).all())
    True
    """
    return keys_at(key, first + jnp.arange(num))


def keys_at(key: PRNGKeyArray, index: Array) -> Keys:
    """Return the keys of images by their numbers, (batch,): fold_in(key, index).

    >>> key = jax.random.key(0)
    >>> bool((keys_at(key, jnp.array([3, 4])) == image_keys(key, 2, first=3)).all())
    True
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def folded(keys: Keys, n: int | Array) -> Keys:
    """Return the keys of images with n folded into each."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, n)


def normal_per_image(keys: Keys, shape: Sequence[int]) -> Float[Array, "batch *data"]:
    """Draw standard normal noise of shape (batch, *data), each image from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, tuple(shape[1:])))(keys)
