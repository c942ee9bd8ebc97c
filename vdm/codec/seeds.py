"""The first images of a chunk, by deflate: bits that are there for the others to borrow, and are not lost.

Bits-back takes bits before it gives any. Random ones would be wasted; these are images. What is compressed looks
random, which is all that is asked of them.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

AXES = ((), (1,), (2,), (1, 2))
"""By a code's first byte: along which axes of (num, height, …) neighbours are subtracted."""


def pack(images: UInt8[np.ndarray, "num *data"]) -> bytes:
    """The images in the smallest of the codes that there are."""
    codes = []
    for number, axes in enumerate(AXES):
        if max(axes, default=0) < images.ndim:
            difference = images
            for axis in axes:
                difference = np.diff(difference, axis=axis, prepend=np.uint8(0))
            codes.append(bytes([number]) + zlib.compress(difference.tobytes(), 9))
    return min(codes, key=len)


def unpack(code: bytes, shape: Sequence[int]) -> UInt8[np.ndarray, "num *data"]:
    """The images of this shape, with their number first; zeros may follow the code. Raises ValueError for another."""
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
