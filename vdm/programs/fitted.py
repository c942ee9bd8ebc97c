"""Pictures converted to a model's size, channels and levels, for --resize."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from vdm.data import pictures
from vdm.errors import InputError

Fit = Callable[[np.ndarray], np.ndarray]
"""uint8 (height, width, channels) -> uint8 of the model's size, channels and levels."""


def as_they_are(pixels: np.ndarray) -> np.ndarray:
    """Return pixels unchanged."""
    return pixels


def fitted(shape: Sequence[int], levels: int) -> Fit:
    """Return a function that resizes pictures of 256 levels to `shape` (Lanczos) and quantizes them into `levels`.

    One channel makes them gray, three RGB. Raises `InputError` for any other number of channels.

    >>> fitted((2, 2, 1), 17)(np.full((4, 4, 3), 255, np.uint8)).ravel().tolist()
    [16, 16, 16, 16]
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise InputError(f"--resize: the model's images are {pictures.describe(tuple(shape))}; must be gray or RGB")

    def fit(pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        values = np.asarray(image, np.int32).reshape(height, width, channels)
        return (values * levels // 256).astype(np.uint8)

    return fit
