"""Pixels as features: they need no network."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from vdm.evaluation.metrics.extractors.extractor import Extractor


def pixels(shape: Sequence[int], levels: int = 256) -> Extractor:
    """The values of all pixels, in [−1, 1].

    >>> pixels((1, 2, 1)).apply({}, jnp.array([0, 255], jnp.uint8).reshape(1, 1, 2, 1), ("values",))["values"].shape
    (1, 2)
    """

    def apply(variables: Any, images: Array, outputs: tuple[str, ...]) -> dict[str, Array]:
        values = images.reshape(images.shape[0], -1).astype(jnp.float32)
        return dict.fromkeys(outputs, (2 * values + 1) / levels - 1)

    return Extractor("pixels", f"pixels of {levels} levels", {"values": math.prod(shape)}, {}, apply, tuple(shape))
