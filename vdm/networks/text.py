"""Captions as a network sees them: states of their tokens, which of these there are, and one vector of the whole."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from vdm.networks.attention import Context, attended

CHANNELS, DEPTH = 64, 2
"""Of the transformer of captions, unless told."""
OF_A_HEAD = 16
"""Channels, about."""


class TextStates(NamedTuple):
    """What a caption is to the layers."""

    tokens: Float[Array, "batch length width"]
    mask: Bool[Array, "batch length"]
    """Which of them are of the caption; the others are padding, and change nothing."""
    pooled: Float[Array, "batch features"]
    """Of the whole caption."""

    @property
    def context(self) -> Context:
        """What attention looks at."""
        return Context(self.tokens, self.mask)


class TextEncoder(nn.Module):
    """Captions, encoded as `vdm.data.encodings` says, as `TextStates` of `channels`; float32.

    Tokens, integers (batch, length), 0 for padding, go through a small transformer that is trained with the model
    (Nichol et al. 2022, §2.1): embeddings of the token and of its place, `depth` blocks, a last normalisation; `pooled`
    is the mean over the tokens. States of a frozen encoder, real numbers (batch, 1 + length, features), row 0 of the
    whole, 0 for padding, go through a normalisation and a linear map.

    >>> import jax
    >>> encoder = TextEncoder(vocabulary=257, channels=8, depth=1)
    >>> states, _ = encoder.init_with_output(jax.random.key(0), jnp.array([[5, 7, 0]]))
    >>> states.tokens.shape, states.mask.tolist(), states.pooled.shape
    ((1, 3, 8), [[True, True, False]], (1, 8))
    """

    vocabulary: int | None
    """Different tokens; None for states."""
    channels: int = CHANNELS
    depth: int = DEPTH
    """Blocks."""

    @nn.compact
    def __call__(self, text: Integer[Array, "batch length"] | Float[Array, "batch rows features"]) -> TextStates:
        if jnp.issubdtype(text.dtype, jnp.floating):
            whole, tokens = text[:, 0], text[:, 1:]
            mask = jnp.any(tokens != 0, axis=-1)
            tokens = nn.Dense(self.channels, name="linear")(nn.LayerNorm(name="norm")(tokens))
            return TextStates(tokens, mask, nn.LayerNorm(name="norm_whole")(whole))
        if self.vocabulary is None:
            raise ValueError("vocabulary=None: must be the number of tokens, for a network conditioned on text")
        mask = text != 0
        init = nn.initializers.normal(1.0)
        place = self.param("place", nn.initializers.normal(0.1), (text.shape[1], self.channels))
        h = nn.Embed(self.vocabulary, self.channels, embedding_init=init, name="token")(text) + place[None]
        heads = max(1, self.channels // OF_A_HEAD)
        for i in range(self.depth):
            h = TextBlock(heads, name=f"block_{i}")(h, mask)
        h = nn.LayerNorm(name="norm")(h)
        there = mask[..., None].astype(h.dtype)
        return TextStates(h, mask, jnp.sum(h * there, axis=1) / jnp.maximum(jnp.sum(there, axis=1), 1))


class TextBlock(nn.Module):
    """h = x + attention(norm(x)) among the tokens there are, then h + perceptron(norm(h))."""

    heads: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length width"], mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch length width"]:
        width, init = x.shape[-1], nn.initializers.xavier_uniform()
        x = x + attended(nn.LayerNorm(name="norm_0")(x), self.heads, jnp.float32, init, init, mask=mask)
        h = nn.gelu(nn.Dense(4 * width, name="hidden")(nn.LayerNorm(name="norm_1")(x)))
        return x + nn.Dense(width, name="perceptron")(h)
