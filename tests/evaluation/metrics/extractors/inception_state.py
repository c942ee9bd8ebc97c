"""Weights of FID's Inception-v3 from a seed, and images: what the peer was given, built again. Needs NumPy alone.

`RandomState`, whose numbers NumPy has promised never to change.
"""

from collections.abc import Mapping, Sequence

import numpy as np

SHAPES = ((8, 8, 1), (17, 23, 3), (32, 32, 3), (64, 64, 1), (299, 299, 3))
"""Height, width and channels of the images."""


def state(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Tensors by name, float32, under which features stay about as large as they are from layer to layer."""
    rng = np.random.RandomState(17)

    def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
        u = 2 * rng.random_sample(shape) - 1
        match name.split(".")[-2:]:
            case ["conv", "weight"]:
                return np.sqrt(6 / np.prod(shape[1:])) * u
            case ["fc", "weight"]:
                return np.sqrt(3 / shape[1]) * u
            case ["bn", "weight"] | ["bn", "running_var"]:
                return 1 + u / 2
            case _:
                return u / 2

    return {name: uniform(name, shapes[name]).astype(np.float32) for name in sorted(shapes)}


def images() -> list[np.ndarray]:
    """One of each of `SHAPES`, uint8: (1, height, width, channels)."""
    rng = np.random.RandomState(18)
    return [rng.randint(0, 256, (1, *shape)).astype(np.uint8) for shape in SHAPES]
