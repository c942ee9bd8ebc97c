"""Random augmentations of one training image: functions (image, rng) -> image on uint8 arrays (H, W, C)."""

from collections.abc import Callable

import numpy as np

from vdm.errors import InputError

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flip the image left to right with probability ½."""
    return image[:, ::-1] if rng.integers(2) else image


def rotate90(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate by 0, 90, 180 or 270 degrees, each with probability ¼."""
    return np.rot90(image, int(rng.integers(4)))


def swap_channels(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute the channels uniformly at random."""
    return image[..., rng.permutation(image.shape[-1])]


AUGMENTATIONS: dict[str, Augmentation] = {"flip": flip, "rotate90": rotate90, "swap_channels": swap_channels}


def get(names: tuple[str, ...], shape: tuple[int, ...]) -> list[Augmentation]:
    """Return the named augmentations, for images of `shape` (H, W, C).

    Raises `InputError` for an unknown name, or for one that does not apply to this shape (vectors, for example).
    """
    if names and len(shape) != 3:
        raise InputError(f"data.augmentations: {names[0]!r} needs images (height, width, channels), these are {shape}")
    for name in names:
        height, width, channels = shape
        if name not in AUGMENTATIONS:
            raise InputError(f"data.augmentations: {name!r} is unknown; allowed are {', '.join(AUGMENTATIONS)}")
        if name == "rotate90" and height != width:
            raise InputError(f"data.augmentations: 'rotate90' needs square images, these are {height}×{width}")
        if name == "swap_channels" and channels == 1:
            raise InputError("data.augmentations: 'swap_channels' needs more than one channel, these images have 1")
    return [AUGMENTATIONS[name] for name in names]
