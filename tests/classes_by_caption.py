"""The classes of `guided` by captions, "a …", "b …" or "c …": an exact network, and what encodes them."""

from typing import Any

import guided
import jax.numpy as jnp
from jax import ShapeDtypeStruct

from vdm.data.texts import fit
from vdm.model import Model

LENGTH = 8
CAPTIONS = ("a cat", "b dog", "c hen")
TEXT = fit(f"bytes(length={LENGTH})", CAPTIONS)
CONDITION = {"text": ShapeDtypeStruct((LENGTH,), jnp.int32)}


class Captions(guided.Classes):
    """By the first letter of a caption."""

    def __call__(self, z: Any, gamma: Any, condition: Any = None, train: bool = False) -> Any:
        if condition is not None:
            rest = {name: value for name, value in condition.items() if name != "text"}
            condition = rest | {"label": jnp.clip(condition["text"][:, 0] - 1 - ord("a"), 0, self.classes - 1)}
        return super().__call__(z, gamma, condition, train)


def model(dropout: float = 0.1) -> Model:
    """Of the variables `guided.exact()`."""
    plain = guided.model()
    return Model(
        plain.schedule, Captions(), plain.shape, plain.levels, "x", condition=CONDITION, condition_dropout=dropout
    )
