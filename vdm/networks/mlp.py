"""A residual perceptron conditioned on γ: the denoiser for vectors, and for data that are treated as vectors."""

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
    """A residual perceptron that returns z + h([z, Fourier features of z], γ), or h alone.

    Input and output have shape (batch, *data); each example is flattened into one vector, so height and width play no
    role. h is a linear map to `channels`, followed by `depth` residual blocks of two layers and a linear map back. The
    last map is initialized to zero, so the output is z, or 0, at first.

    Parameters are float32. With dtype bfloat16, the blocks compute in bfloat16, except for normalization statistics.
    The embedding of γ, the Fourier features, and the first and last linear maps stay float32.

    >>> import jax
    >>> network = MLP(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
    >>> z = jnp.ones((3, 2))
    >>> params = network.init(jax.random.key(0), z, jnp.zeros(3))
    >>> network.apply(params, z, jnp.zeros(3)).shape
    (3, 2)
    """

    channels: int
    depth: int
    """Number of blocks."""
    gamma_min: float
    """Value of γ that the embedding maps to time 0. Constant, even if the schedule is learned."""
    gamma_max: float
    """Value of γ that the embedding maps to time 1."""
    fourier: Sequence[int] = ()
    """Exponents n of the input features sin(2ⁿπz), cos(2ⁿπz)."""
    dropout: float = 0.0
    residual: bool = True
    """Whether z is added to the output."""
    classes: int | None = None
    """Number of classes, for a network conditioned on labels."""
    vocabulary: int | None = None
    """Number of distinct tokens, for a network conditioned on tokenized captions."""
    text_channels: int = text.CHANNELS
    """Width of the transformer that encodes captions."""
    text_depth: int = text.DEPTH
    """Number of blocks of the transformer that encodes captions."""
    dtype: DTypeLike = jnp.float32
    """Computation dtype of the blocks."""

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "batch *data"],
        gamma: Float[Array, ""] | Float[Array, " batch"],
        condition: Any = None,
        train: bool = False,
    ) -> Float[Array, "batch *data"]:
        """Return the prediction, e.g. the noise ε̂. With `train`, dropout draws from the random stream "dropout".

        A condition is added to the embedding of γ, a caption as a single vector: see `ConditionEmbedding`.
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
    """A residual block x + linear(dropout(swish(linear(norm(x)) + linear(cond)))), the identity at first."""

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
    """Make a residual perceptron, as named in a config: see `MLP`.

    Without `fourier`, the exponents of the input features are chosen for data with `levels` values; real data have
    none.

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
