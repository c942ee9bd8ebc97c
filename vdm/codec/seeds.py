"""The first images of a chunk, compressed by deflate: they supply the initial bits that bits-back coding borrows.

Bits-back coding takes bits off the stack before it adds any. Random bits would be wasted, but these encode images, and
compressed data look random, which is all that is needed.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

AXES = ((), (1,), (2,), (1, 2))
"""Axes of (num, height, …) along which differences of neighbors are taken, indexed by the first byte of a code."""


def pack(images: UInt8[np.ndarray, "num *data"]) -> bytes:
    """Compress the images with each choice of `AXES`, and return the shortest code.

    >>> images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
    >>> bool((unpack(pack(images), images.shape) == images).all())
    True
    """
    codes = []
    for number, axes in enumerate(AXES):
        if max(axes, default=0) < images.ndim:
            difference = images
            for axis in axes:
                difference = np.diff(difference, axis=axis, prepend=np.uint8(0))
            codes.append(bytes([number]) + zlib.compress(difference.tobytes(), 9))
    return min(codes, key=len)


def unpack(code: bytes, shape: Sequence[int]) -> UInt8[np.ndarray, "num *data"]:
    """Decode images of `shape` = (num, *data); zeros may follow the code. Raises ValueError for any other code."""
    size = int(np.prod(shape))
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(code[1:], size + 1)
    except zlib.error as error:
        raise ValueError(f"code: cannot be inflated ({error})") from error
    if len(raw) != size or not code or code[0] >= len(AXES) or max(AXES[code[0]], default=0) >= len(shape):
        raise ValueError(f"code: is not one of {size} values")
    images = np.frombuffer(raw, np.uint8).reshape(shape)
    for axis in reversed(AXES[code[0]]):
        images = np.cumsum(images, axis=axis, dtype=np.uint8)
    return images
