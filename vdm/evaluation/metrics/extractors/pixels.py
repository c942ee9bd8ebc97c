"""Pixels as features, which need no network."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array

from vdm import likelihoods
from vdm.evaluation.metrics.extractors.extractor import Extractor


def pixels(shape: Sequence[int], levels: int = 256) -> Extractor:
    """The values of all pixels in [−1, 1]; real numbers unchanged.

    >>> images = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    >>> pixels((1, 2, 1)).apply({}, images, ("values",))["values"].shape
    (1, 2)
    """

    def apply(variables: Any, images: Array | np.ndarray, outputs: tuple[str, ...]) -> dict[str, Array]:
        return dict.fromkeys(outputs, likelihoods.encode(images.reshape(images.shape[0], -1), levels))

    identity, outputs = f"pixels of {levels} levels", {"values": math.prod(shape)}
    return Extractor("pixels", identity, outputs, {}, apply, tuple(shape), likelihoods.dtype(levels))
