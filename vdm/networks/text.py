"""Encoding of captions for a network: states of their tokens, a mask, and one vector for the whole caption."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from vdm.networks.attention import Context, attended

CHANNELS, DEPTH = 64, 2
"""Default width and number of blocks of the transformer that encodes captions."""
OF_A_HEAD = 16
"""Approximate number of channels per attention head."""


class TextStates(NamedTuple):
    """Encoded captions."""

    tokens: Float[Array, "batch length width"]
    mask: Bool[Array, "batch length"]
    """True for tokens of the caption; the others are padding and have no effect."""
    pooled: Float[Array, "batch features"]
    """One vector for the whole caption."""

    @property
    def context(self) -> Context:
        """The tokens and their mask, for attention."""
        return Context(self.tokens, self.mask)


class TextEncoder(nn.Module):
    """Encode captions, given as tokens or as states of a frozen encoder (`vdm.data.encodings`), in float32.

    Tokens are integers (batch, length), with 0 for padding. They go through a small transformer that is trained with
    the model (Nichol et al. 2022, §2.1): embeddings of the token and of its position, `depth` blocks, and a last
    normalization; `pooled` is the mean over the tokens. States of a frozen encoder are floats (batch, 1 + length,
    features), with the vector of the whole caption in row 0, and zeros for padding. They go through a normalization
    and, except for row 0, a linear map to `channels`.

    >>> import jax
    >>> encoder = TextEncoder(vocabulary=257, channels=8, depth=1)
    >>> states, _ = encoder.init_with_output(jax.random.key(0), jnp.array([[5, 7, 0]]))
    >>> states.tokens.shape, states.mask.tolist(), states.pooled.shape
    ((1, 3, 8), [[True, True, False]], (1, 8))
    """

    vocabulary: int | None
    """Number of distinct tokens; None for states of a frozen encoder."""
    channels: int = CHANNELS
    depth: int = DEPTH
    """Number of blocks."""

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
    """The block h = x + attention(norm(x)) among the tokens in `mask`, then h + perceptron(norm(h))."""

    heads: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length width"], mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch length width"]:
        width, init = x.shape[-1], nn.initializers.xavier_uniform()
        x = x + attended(nn.LayerNorm(name="norm_0")(x), self.heads, jnp.float32, init, init, mask=mask)
        h = nn.gelu(nn.Dense(4 * width, name="hidden")(nn.LayerNorm(name="norm_1")(x)))
        return x + nn.Dense(width, name="perceptron")(h)
