"""Inputs of a network besides z: embeddings of γ and of the condition, and Fourier features of z."""

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
    """Embed a condition as a float32 vector (batch, size), to be added to the embedding of γ.

    The entry "label", integers (batch,) below `classes`, has a learned vector per class. Float arrays (batch,
    features), such as the vector of a caption, go through a linear map. The result is the sum over all entries. Where
    the entry "dropped", booleans (batch,), is True, a learned vector for "no condition" replaces the sum (Ho & Salimans
    2022). Raises ValueError for any other entry.

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
    """What the blocks of a network are conditioned on."""

    cond: Float[Array, "batch size"]
    """Embedding of γ and of the whole condition, as one vector."""
    context: Context | None
    """Tokens of a caption, for attention; None without a caption."""


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
    """Embed γ, and a condition if there is one, in float32.

    The position of γ between its `ends`, as a time, is expanded into `frequencies` sines and cosines. These go through
    the linear maps "embed_0" and "embed_1" of the calling module, each followed by swish; the embedding "condition" is
    added to the output of the first. The entry "text" of a condition is first encoded by `text`; if the condition is
    dropped, its tokens are masked.
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
    """Return sines and cosines of 1000·time at size/2 frequencies from 1 to 1/10000, in float32.

    If `size` is odd, the last column is zero.

    >>> time_embedding(jnp.zeros(2), 8).shape
    (2, 8)
    """
    half = size // 2
    frequencies = jnp.exp(-np.log(10_000) / max(half - 1, 1) * jnp.arange(half, dtype=jnp.float32))
    angles = 1000 * time.astype(jnp.float32)[:, None] * frequencies[None, :]
    embedding = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return jnp.pad(embedding, ((0, 0), (0, size - 2 * half)))


def fourier_features(z: Float[Array, "*batch channels"], exponents: Sequence[int]) -> Float[Array, "*batch features"]:
    """Return sin(2ⁿπz) and then cos(2ⁿπz), each ordered by channel and within a channel by n; computed in float32.

    The 8 bits of bfloat16 would lose the very detail that these features are for.

    >>> fourier_features(jnp.zeros((2, 3)), (7, 8)).shape
    (2, 12)
    """
    frequencies = np.pi * 2.0 ** np.asarray(exponents, np.float32)
    angles = z.astype(jnp.float32)[..., None] * frequencies.reshape((1,) * z.ndim + (-1,))
    angles = angles.reshape(*z.shape[:-1], -1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fourier_exponents(levels: int) -> tuple[int, ...]:
    """Return exponents n for which sin(2ⁿπz) has a period of about two bins and one bin of data with `levels` values.

    These are (7, 8) for 256 levels, the choice of Kingma et al. (2021), and (3, 4) for 17. Real data have no bins and
    get no exponents.

    >>> fourier_exponents(256)
    (7, 8)
    """
    if levels == REAL:
        return ()
    top = round(math.log2(levels))
    return top - 1, top
