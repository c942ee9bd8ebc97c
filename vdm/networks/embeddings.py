"""What a network sees beside z: γ, Fourier features of z, and what it is conditioned on."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vdm.likelihoods import REAL
from vdm.networks.attention import Context
from vdm.networks.text import TextEncoder


class ConditionEmbedding(nn.Module):
    """A condition as a vector (batch, size), to be added to the embedding of γ; float32.

    Of its entries, "label" (integers below `classes`, of shape (batch,)) has a learned vector for each class; float
    arrays (batch, features), the vector of a caption among them, go through a linear map; the sum of all is the result.
    Where the entry "dropped" (booleans, (batch,)) is True, a learned vector for "no condition" takes its place (Ho &
    Salimans 2022). Any other entry is a ValueError.

    >>> embedding = ConditionEmbedding(size=16, classes=10)
    >>> condition = {"label": jnp.array([3, 7]), "dropped": jnp.array([False, True])}
    >>> embedding.init_with_output(jax.random.key(0), condition)[0].shape
    (2, 16)
    """

    size: int
    classes: int | None = None

    @nn.compact
    def __call__(self, condition: Any) -> Float[Array, "batch size"]:
        entries = dict(condition) if isinstance(condition, dict) else {"condition": condition}
        dropped = entries.pop("dropped", None)
        init = nn.initializers.normal(1.0)
        vectors = []
        for path, x in jax.tree_util.tree_leaves_with_path(entries):
            name = ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
            if name == "label" and x.ndim == 1 and jnp.issubdtype(x.dtype, jnp.integer):
                if self.classes is None:
                    raise ValueError("classes=None: must be the number of labels, for a network conditioned on them")
                vectors.append(nn.Embed(self.classes, self.size, embedding_init=init, name=name)(x))
            elif x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.floating):
                vectors.append(nn.Dense(self.size, use_bias=False, name=name)(x))
            else:
                raise ValueError(
                    f"condition {name!r} is {x.dtype} {x.shape}: this network takes 'label', integers (batch,), and "
                    "float arrays (batch, features)"
                )
        result: Array = sum(vectors[1:], start=vectors[0])
        if dropped is None:
            return result
        return jnp.where(dropped[:, None], self.param("none", init, (self.size,))[None, :], result)


class Embedded(NamedTuple):
    """What a network's blocks are conditioned on."""

    cond: Float[Array, "batch size"]
    """γ, and the whole condition, as a vector."""
    context: Context | None
    """The tokens of a caption, for attention; None without one."""


def embedded(
    gamma: Float[Array, ""] | Float[Array, " batch"],
    condition: Any,
    batch: int,
    *,
    ends: tuple[float, float],
    frequencies: int,
    size: int,
    classes: int | None,
    text: TextEncoder,
) -> Embedded:
    """γ, and a condition if there is one, as blocks take it; float32.

    Linear maps "embed_0" and "embed_1" of the module that calls it, each with swish, of the time at which γ lies
    between its `ends`, by `frequencies` sines and cosines; the embedding "condition" joins the first of them. The entry
    "text" of a condition is first encoded by `text`; the tokens of a dropped one are hidden.
    """
    time = (gamma - ends[0]) / (ends[1] - ends[0])
    hidden = nn.Dense(size, name="embed_0")(time_embedding(jnp.broadcast_to(time, (batch,)), frequencies))
    context = None
    if isinstance(condition, dict) and "text" in condition:
        states = text(condition["text"])
        dropped = condition.get("dropped", jnp.zeros(batch, bool))
        context = Context(states.tokens, states.mask & ~dropped[:, None])
        condition = {**condition, "text": states.pooled}
    if condition is not None:
        hidden += ConditionEmbedding(size, classes, name="condition")(condition)
    return Embedded(nn.swish(nn.Dense(size, name="embed_1")(nn.swish(hidden))), context)


def time_embedding(time: Float[Array, " batch"], size: int) -> Float[Array, "batch size"]:
    """Sines and cosines of 1000·time at size/2 frequencies from 1 to 1/10000, float32.

    The last column is zero if `size` is odd.
    """
    half = size // 2
    frequencies = jnp.exp(-np.log(10_000) / max(half - 1, 1) * jnp.arange(half, dtype=jnp.float32))
    angles = 1000 * time.astype(jnp.float32)[:, None] * frequencies[None, :]
    embedding = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return jnp.pad(embedding, ((0, 0), (0, size - 2 * half)))


def fourier_features(z: Float[Array, "*batch channels"], exponents: Sequence[int]) -> Float[Array, "*batch features"]:
    """sin(2ⁿπz) then cos(2ⁿπz), channel by channel and n by n within each; float32 arguments.

    bfloat16 has 8 bits: it would lose the very detail these features are for.
    """
    frequencies = np.pi * 2.0 ** np.asarray(exponents, np.float32)
    angles = z.astype(jnp.float32)[..., None] * frequencies.reshape((1,) * z.ndim + (-1,))
    angles = angles.reshape(*z.shape[:-1], -1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fourier_exponents(levels: int) -> tuple[int, ...]:
    """The exponents n whose sin(2ⁿπz) has a period of about two bins and one bin of data with `levels` values.

    (7, 8) for 256 levels, the choice of Kingma et al. (2021); (3, 4) for 17; none for real numbers, which have no bins.
    """
    if levels == REAL:
        return ()
    top = round(math.log2(levels))
    return top - 1, top
