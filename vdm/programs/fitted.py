"""Pictures made into images like a model's, if asked for: size, channels and levels."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from vdm.data import pictures
from vdm.errors import InputError

Fit = Callable[[np.ndarray], np.ndarray]
"""uint8 (height, width, channels) -> the same of other sizes and values."""


def as_they_are(pixels: np.ndarray) -> np.ndarray:
    """Nothing is changed."""
    return pixels


def fitted(shape: Sequence[int], levels: int) -> Fit:
    """Pictures of 256 levels resized to `shape` (Lanczos), grey or RGB as it says, in `levels` equal steps.

    Raises `InputError` for a shape of other channels than 1 or 3.

    >>> fitted((2, 2, 1), 17)(np.full((4, 4, 3), 255, np.uint8)).ravel().tolist()
    [16, 16, 16, 16]
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise InputError(f"--resize: the model's images are {pictures.describe(tuple(shape))}; must be grey or RGB")

    def fit(pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        values = np.asarray(image, np.int32).reshape(height, width, channels)
        return (values * levels // 256).astype(np.uint8)

    return fit
