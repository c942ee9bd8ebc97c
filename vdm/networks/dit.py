"""The diffusion transformer (DiT): attention among the patches of an image (Peebles & Xie 2023)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.networks import text
from vdm.networks.attention import Context, attended, check_heads
from vdm.networks.convolution import check_images
from vdm.networks.embeddings import embedded, fourier_exponents, fourier_features
from vdm.networks.normalization import EPSILON, whole

FREQUENCIES = 256
"""Number of sines and cosines that embed the time, whatever the width of the network."""
LONGEST_WAVE = 10_000.0
"""Longest wavelength of the position embedding, in patches, divided by 2π."""

ZEROS, XAVIER = nn.initializers.zeros, nn.initializers.xavier_uniform()


class DiT(nn.Module):
    """A transformer over image patches that returns z + h([z, Fourier features of z], γ), or h alone.

    Input and output have shape (batch, height, width, channels). A token is a patch of `patch` × `patch` pixels with
    their features, mapped to `channels`, plus fixed sines and cosines of its position. Then follow `depth` blocks of
    attention and a perceptron, each conditioned by scales, shifts and gates that are zero at first (adaLN-zero). A
    linear map, initialized to zero, turns tokens back into patches, so the output is z, or 0, at first. Raises
    ValueError unless height and width are multiples of `patch`.

    Parameters are float32. With dtype bfloat16, the blocks compute in bfloat16, except for normalization statistics and
    softmax. The embedding of γ, the Fourier features, and the first and last linear maps stay float32.

    >>> import jax
    >>> network = DiT(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
    >>> z = jnp.ones((2, 4, 4, 1))
    >>> params = network.init(jax.random.key(0), z, jnp.zeros(2))
    >>> network.apply(params, z, jnp.zeros(2)).shape
    (2, 4, 4, 1)
    """

    channels: int
    """Width of a token: a multiple of 4, for the sines and cosines of its row and column."""
    depth: int
    """Number of blocks."""
    gamma_min: float
    """Value of γ that the embedding maps to time 0. Constant, even if the schedule is learned."""
    gamma_max: float
    """Value of γ that the embedding maps to time 1."""
    patch: int = 2
    """Side of a patch in pixels."""
    heads: int = 1
    mlp_ratio: float = 4.0
    """Width of the perceptron's hidden layer, as a multiple of `channels`."""
    fourier: Sequence[int] = (7, 8)
    """Exponents n of the input features sin(2ⁿπz), cos(2ⁿπz): (7, 8) for 8-bit data, see `fourier_exponents`."""
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
    remat: bool = False
    """Whether the backward pass recomputes each block from its input instead of storing its activations."""

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "batch height width channels"],
        gamma: Float[Array, ""] | Float[Array, " batch"],
        condition: Any = None,
        train: bool = False,
    ) -> Float[Array, "batch height width channels"]:
        """Return the prediction, e.g. the noise ε̂. With `train`, dropout draws from the random stream "dropout".

        A condition is added to the embedding of γ, and the tokens of a caption join the keys and values of attention:
        see `embedded`.
        """
        _check_sides(z.shape[1:3], self.patch)
        cond, context = embedded(
            gamma,
            condition,
            z.shape[0],
            ends=(self.gamma_min, self.gamma_max),
            frequencies=FREQUENCIES,
            size=self.channels,
            classes=self.classes,
            text=text.TextEncoder(self.vocabulary, self.text_channels, self.text_depth, name="text"),
        )
        tokens = patches(jnp.concatenate([z, fourier_features(z, self.fourier)], axis=-1), self.patch)
        rows, columns = (side // self.patch for side in z.shape[1:3])
        h = nn.Dense(self.channels, kernel_init=XAVIER, name="linear_in")(tokens)
        h = (h + positions(rows, columns, self.channels)[None]).astype(self.dtype)

        # Argument 3 is `train`, as 0 is self.
        transformer_block = nn.remat(TransformerBlock, static_argnums=(3,)) if self.remat else TransformerBlock
        for i in range(self.depth):
            block = transformer_block(self.heads, self.mlp_ratio, self.dropout, self.dtype, name=f"block_{i}")
            h = block(h, cond, train, context)

        more, beside = modulations(cond, 2, self.channels, jnp.float32, "condition_out")
        h = normalized(h, more, beside, jnp.float32)
        h = nn.Dense(self.patch**2 * z.shape[-1], kernel_init=ZEROS, name="linear_out")(h)
        h = image(h, z.shape[1:3], self.patch)
        return z + h if self.residual else h


class TransformerBlock(nn.Module):
    """The block h = x + g₁ attention((1 + a₁) norm(x) + b₁), then h + g₂ perceptron((1 + a₂) norm(h) + b₂).

    All of a, b and g are linear in cond and zero at first, so the block is the identity at first. Dropout is inside the
    perceptron.
    """

    heads: int
    mlp_ratio: float
    dropout: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens channels"],
        cond: Float[Array, "batch size"],
        train: bool,
        context: Context | None = None,
    ) -> Float[Array, "batch tokens channels"]:
        x = whole(x)
        channels, dtype = x.shape[-1], self.dtype
        a_1, b_1, g_1, a_2, b_2, g_2 = modulations(cond, 6, channels, dtype, "condition")
        h = attended(normalized(x, a_1, b_1, dtype), self.heads, dtype, XAVIER, XAVIER, context)
        x = x + g_1[:, None] * h
        h = normalized(x, a_2, b_2, dtype)
        h = nn.Dense(int(self.mlp_ratio * channels), kernel_init=XAVIER, dtype=dtype, name="hidden")(h)
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.gelu(h))
        return x + g_2[:, None] * nn.Dense(channels, kernel_init=XAVIER, dtype=dtype, name="perceptron")(h)


def modulations(
    cond: Float[Array, "batch size"], number: int, channels: int, dtype: DTypeLike, name: str
) -> list[Float[Array, "batch channels"]]:
    """Return `number` linear maps of cond, initialized to zero, by a layer `name` of the calling module."""
    values = nn.Dense(number * channels, kernel_init=ZEROS, dtype=dtype, name=name)(cond)
    return jnp.split(values, number, axis=-1)


def normalized(
    x: Float[Array, "batch tokens channels"],
    more: Float[Array, "batch channels"],
    beside: Float[Array, "batch channels"],
    dtype: DTypeLike,
) -> Float[Array, "batch tokens channels"]:
    """Return (1 + more) x + beside in `dtype`, with each token of x normalized in float32 to mean 0 and variance 1."""
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + EPSILON)
    return ((1 + more.astype(jnp.float32)[:, None]) * x + beside.astype(jnp.float32)[:, None]).astype(dtype)


def patches(x: Float[Array, "batch height width channels"], patch: int) -> Float[Array, "batch tokens features"]:
    """Cut images into patches, in row-major order, each flattened in row-major order.

    >>> patches(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, 0].tolist()
    [0.0, 1.0, 4.0, 5.0]
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, patch * patch * channels)


def image(
    tokens: Float[Array, "batch tokens features"], sides: Sequence[int], patch: int
) -> Float[Array, "batch height width channels"]:
    """Invert `patches`: assemble images of height and width `sides`."""
    height, width = sides
    x = tokens.reshape(len(tokens), height // patch, width // patch, patch, patch, -1)
    return x.swapaxes(2, 3).reshape(len(tokens), height, width, -1)


def positions(rows: int, columns: int, channels: int) -> Float[np.ndarray, "tokens channels"]:
    """Return sines and cosines of each patch's column, then of its row, at `channels`/4 frequencies."""
    frequencies = LONGEST_WAVE ** -(np.arange(channels // 4) / (channels // 4))

    def along(places: np.ndarray) -> np.ndarray:
        angles = places.reshape(-1, 1) * frequencies[None, :]
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    row, column = np.mgrid[:rows, :columns]
    return np.concatenate([along(column), along(row)], axis=1).astype(np.float32)


def dit(
    channels: int = 768,
    depth: int = 12,
    patch: int = 2,
    heads: int = 1,
    mlp_ratio: float = 4.0,
    dropout: float = 0.0,
    fourier: tuple[int, ...] | None = None,
    residual: bool = True,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    shape: tuple[int, ...] = (64, 64, 3),
    levels: int = 256,
    classes: int | None = None,
    vocabulary: int | None = None,
    text_channels: int = text.CHANNELS,
    text_depth: int = text.DEPTH,
    dtype: str = "float32",
    remat: bool = False,
) -> DiT:
    """Make the diffusion transformer of Peebles & Xie (2023), as named in a config: see `DiT`.

    Without `fourier`, the exponents of the input features are chosen for data with `levels` values. Raises ValueError
    for sizes that do not fit together or do not fit the images.

    >>> network = dit(channels=8, depth=1, patch=4, shape=(8, 8, 1), levels=17)
    >>> network.patch, network.fourier
    (4, (3, 4))
    """
    if channels % 4:
        raise ValueError(f"channels={channels}: must be a multiple of 4, for sines and cosines of row and column")
    check_heads(heads, channels)
    if patch < 1:
        raise ValueError(f"patch={patch}: must be 1 or more")
    if not 1 <= mlp_ratio * channels < 2**20:
        raise ValueError(f"mlp_ratio={mlp_ratio}: must be such that 1 ≤ mlp_ratio · channels < 2²⁰")
    check_images(shape)
    _check_sides(shape[:2], patch)
    return DiT(
        channels=channels,
        depth=depth,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        patch=patch,
        heads=heads,
        mlp_ratio=mlp_ratio,
        fourier=fourier_exponents(levels) if fourier is None else fourier,
        dropout=dropout,
        residual=residual,
        classes=classes,
        vocabulary=vocabulary,
        text_channels=text_channels,
        text_depth=text_depth,
        dtype=jnp.dtype(dtype),
        remat=remat,
    )


def _check_sides(sides: Sequence[int], patch: int) -> None:
    if any(side % patch for side in sides):
        raise ValueError(f"patch={patch}: must divide the images' height and width, {'×'.join(map(str, sides))}")
