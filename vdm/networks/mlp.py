"""A residual perceptron, conditioned on γ: the denoiser of vectors, and of what is taken as one."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.networks import text
from vdm.networks.embeddings import embedded, fourier_exponents, fourier_features
from vdm.networks.normalization import whole

ZEROS = nn.initializers.zeros


class MLP(nn.Module):
    """z + network([z, Fourier features of z], γ), or without the z; shapes (batch, *data) in and out.

    All values of an example are one vector: nothing is known of height and width. A linear map to `channels`, `depth`
    residual blocks of two layers, a linear map back, zero at first: the result is z, or 0, at first.

    Parameters are float32. With dtype bfloat16 the blocks compute in it; the ends stay float32: the embedding of γ, the
    Fourier features, the first and the last linear map; and within the blocks statistics of normalisation.

    >>> import jax
    >>> network = MLP(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
    >>> z = jnp.ones((3, 2))
    >>> params = network.init(jax.random.key(0), z, jnp.zeros(3))
    >>> network.apply(params, z, jnp.zeros(3)).shape
    (3, 2)
    """

    channels: int
    depth: int
    """Blocks."""
    gamma_min: float
    """γ that the embedding sees as time 0. A constant of the network, also where the schedule is learned."""
    gamma_max: float
    """γ that the embedding sees as time 1."""
    fourier: Sequence[int] = ()
    """Exponents n of the input features sin(2ⁿπz), cos(2ⁿπz)."""
    dropout: float = 0.0
    residual: bool = True
    """Whether z is added to the result."""
    classes: int | None = None
    """Number of labels, where it is conditioned on them."""
    vocabulary: int | None = None
    """Different tokens, where it is conditioned on captions as tokens."""
    text_channels: int = text.CHANNELS
    """Of the transformer of captions."""
    text_depth: int = text.DEPTH
    """Its blocks."""
    dtype: DTypeLike = jnp.float32
    """What blocks compute in."""

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "batch *data"],
        gamma: Float[Array, ""] | Float[Array, " batch"],
        condition: Any = None,
        train: bool = False,
    ) -> Float[Array, "batch *data"]:
        """The predicted noise ε̂, or what else is predicted. With `train`, dropout draws from the stream "dropout".

        A condition joins the embedding of γ: see `ConditionEmbedding`; a caption as one vector.
        """
        cond, _ = embedded(
            gamma,
            condition,
            z.shape[0],
            ends=(self.gamma_min, self.gamma_max),
            frequencies=self.channels,
            size=2 * self.channels,
            classes=self.classes,
            text=text.TextEncoder(self.vocabulary, self.text_channels, self.text_depth, name="text"),
        )
        x = z.reshape(z.shape[0], -1)
        h = jnp.concatenate([x, fourier_features(x, self.fourier)], axis=-1)
        h = nn.Dense(self.channels, name="in")(h).astype(self.dtype)
        for i in range(self.depth):
            h = PerceptronBlock(self.dropout, self.dtype, name=f"block_{i}")(h, cond, train)
        h = nn.swish(nn.LayerNorm(name="norm_out")(h.astype(jnp.float32)))
        h = nn.Dense(x.shape[-1], kernel_init=ZEROS, name="out")(h).reshape(z.shape)
        return z + h if self.residual else h


class PerceptronBlock(nn.Module):
    """x + linear(dropout(swish(linear(norm(x)) + linear(cond)))), the last linear map zero at first."""

    dropout: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch channels"], cond: Float[Array, "batch size"], train: bool
    ) -> Float[Array, "batch channels"]:
        x = whole(x)
        channels, dtype = x.shape[-1], self.dtype
        h = nn.LayerNorm(name="norm")(x.astype(jnp.float32)).astype(dtype)
        h = nn.Dense(2 * channels, dtype=dtype, name="hidden")(h)
        h += nn.Dense(2 * channels, use_bias=False, kernel_init=ZEROS, dtype=dtype, name="condition")(cond)
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.swish(h))
        return x + nn.Dense(channels, kernel_init=ZEROS, dtype=dtype, name="out")(h)


def mlp(
    channels: int = 64,
    depth: int = 3,
    fourier: tuple[int, ...] | None = None,
    dropout: float = 0.0,
    residual: bool = True,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    levels: int = 0,
    classes: int | None = None,
    vocabulary: int | None = None,
    text_channels: int = text.CHANNELS,
    text_depth: int = text.DEPTH,
    dtype: str = "float32",
) -> MLP:
    """A residual perceptron, as a config names it: see `MLP`.

    Without `fourier`, the exponents of the input's features are those for data of `levels` values: none of real
    numbers.

    >>> mlp(channels=8, depth=1, levels=0).fourier
    ()
    """
    return MLP(
        channels=channels,
        depth=depth,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        fourier=fourier_exponents(levels) if fourier is None else fourier,
        dropout=dropout,
        residual=residual,
        classes=classes,
        vocabulary=vocabulary,
        text_channels=text_channels,
        text_depth=text_depth,
        dtype=jnp.dtype(dtype),
    )
