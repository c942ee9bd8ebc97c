"""Encoders and decoders of small models: from x to a feature vector, and from a vector to p(x|z)."""

from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.networks.classifier import MOST_DOUBLINGS, halved, num_resolutions
from vdm.networks.convolution import Conv
from vdm.networks.normalization import Norm
from vdm.predecessors.latent import Observed
from vdm.predecessors.normal import Normal

Coder = Literal["mlp", "conv"]

GAMMAS = (-13.3, 5.0)
"""Range of the log variances of p(x|z): the default range of γ in a diffusion model."""
LOG_STDS = (-6.0, 6.0)
"""Range of the log standard deviations of latents."""


def within(raw: Float[Array, "*shape"], low: float, high: float) -> Float[Array, "*shape"]:
    """Squash any number smoothly into the range from `low` to `high`, with slope 1 in the middle.

    >>> [round(float(value), 3) for value in within(jnp.array([-100.0, -1.0, 100.0]), -6.0, 4.0)]
    [-6.0, -1.0, 4.0]
    """
    middle, half = (low + high) / 2, (high - low) / 2
    return middle + half * jnp.tanh((raw - middle) / half)


class NormalHead(nn.Module):
    """Map features to a normal distribution over `latents` values, a standard normal at initialization.

    >>> import jax
    >>> head, _ = NormalHead(3).init_with_output(jax.random.key(0), jnp.ones((2, 8)))
    >>> head.mean.shape
    (2, 3)
    """

    latents: int

    @nn.compact
    def __call__(self, h: Float[Array, "batch width"]) -> Normal:
        """Return the distribution, in float32."""
        h = nn.LayerNorm(name="norm")(h)
        mean = nn.Dense(self.latents, kernel_init=nn.initializers.zeros, name="mean")(h)
        log_std = nn.Dense(self.latents, kernel_init=nn.initializers.zeros, name="log_std")(h)
        return Normal(mean, within(log_std, *LOG_STDS))


class Block(nn.Module):
    """Residual block on float32 vectors, h + MLP(LayerNorm(h)), with one hidden layer of the same width.

    >>> import jax
    >>> h, _ = Block().init_with_output(jax.random.key(0), jnp.ones((2, 8)))
    >>> h.shape
    (2, 8)
    """

    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
        """Return an array with the shape and dtype of h."""
        hidden = nn.Dense(h.shape[-1], dtype=self.dtype, name="in")(nn.LayerNorm(name="norm")(h))
        hidden = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(nn.swish(hidden))
        return h + nn.Dense(h.shape[-1], dtype=self.dtype, name="out")(hidden).astype(h.dtype)


class MLPEncoder(nn.Module):
    """Encode x, flattened, to features (batch, width) by `depth` residual blocks."""

    width: int
    depth: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch *data"]) -> Float[Array, "batch width"]:
        """Return the features, in float32."""
        h = nn.Dense(self.width, name="in")(x.reshape(len(x), -1))
        for i in range(self.depth):
            h = Block(self.dropout, self.dtype, name=f"block_{i}")(h)
        return h


class MLPDecoder(nn.Module):
    """Decode a vector to p(x|·) by `depth` residual blocks."""

    shape: Sequence[int]
    width: int
    depth: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Float[Array, "batch features"]) -> Observed:
        """Return the distribution, in float32."""
        h = MLPEncoder(self.width, self.depth, self.dropout, self.dtype, name="features")(h)
        h = nn.swish(nn.LayerNorm(name="norm_out")(h))
        return _observed(nn.Dense(2 * int(np.prod(self.shape)), name="out")(h).reshape(len(h), *self.shape, 2))


class ConvBlock(nn.Module):
    """Residual block of two convolutions, which may change the number of channels."""

    channels: int
    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, h: Float[Array, "batch height width inputs"]) -> Float[Array, "batch height width channels"]:
        """Return the block's output, in `dtype`."""
        train = self.has_rng("dropout")
        u = Conv(self.channels, self.dtype, name="conv_0")(Norm(dtype=self.dtype, name="norm_0")(h), train)
        u = Norm(dropout=self.dropout, dtype=self.dtype, name="norm_1")(u, train=train)
        u = Conv(self.channels, self.dtype, name="conv_1")(u, train)
        if h.shape[-1] != self.channels:
            h = nn.Dense(self.channels, dtype=self.dtype, name="skip")(h)
        return h + u


class ConvEncoder(nn.Module):
    """Encode images to features (batch, width) by `depth` residual blocks at each of several resolutions.

    The sides are halved from one resolution to the next, until the shorter one has about four pixels; a linear layer on
    all of these gives the features. The first resolution has width/4 channels, and their number doubles at each of the
    next two.
    """

    width: int
    depth: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch features"]:
        """Return the features, in float32."""
        h = Conv(_channels(self.width, 0), name="conv_in")(x, self.has_rng("dropout")).astype(self.dtype)
        for k in range(num_resolutions(min(x.shape[1:3]))):
            h = halved(h) if k > 0 else h
            for i in range(self.depth):
                h = ConvBlock(_channels(self.width, k), self.dropout, self.dtype, name=f"block_{k}_{i}")(h)
        return nn.Dense(self.width, name="out")(Norm(name="norm_out")(h).reshape(len(h), -1))


class ConvDecoder(nn.Module):
    """Decode a vector to p(x|·) of images: `ConvEncoder` in reverse, with nearest-neighbor upsampling."""

    shape: Sequence[int]
    width: int
    depth: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, h: Float[Array, "batch features"]) -> Observed:
        """Return the distribution, in float32."""
        height, width, values = self.shape
        last = num_resolutions(min(height, width)) - 1
        sides = [(-(-height // 2**k), -(-width // 2**k)) for k in range(last + 1)]
        channels = _channels(self.width, last)
        h = nn.Dense(sides[last][0] * sides[last][1] * channels, name="in")(h)
        h = h.reshape(len(h), *sides[last], channels).astype(self.dtype)
        for k in range(last, -1, -1):
            for i in range(self.depth):
                h = ConvBlock(_channels(self.width, k), self.dropout, self.dtype, name=f"block_{k}_{i}")(h)
            h = doubled(h, *sides[k - 1]) if k > 0 else h
        h = Conv(2 * values, name="conv_out")(Norm(name="norm_out")(h), self.has_rng("dropout"))
        return _observed(h.reshape(*h.shape[:3], values, 2))


def doubled(
    h: Float[Array, "batch rows columns channels"], height: int, width: int
) -> Float[Array, "batch height width channels"]:
    """Repeat each pixel as a 2×2 square and crop the result to height × width.

    >>> doubled(jnp.arange(2.0).reshape(1, 2, 1, 1), 3, 1).ravel().tolist()
    [0.0, 0.0, 1.0]
    """
    return jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)[:, :height, :width]


class Coders(nn.Module):
    """An encoder and a decoder of the kind `coder` for data of this shape."""

    coder: Coder
    shape: Sequence[int]
    width: int
    depth: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        sizes = (self.width, self.depth, self.dropout, self.dtype)
        make = {"mlp": (MLPEncoder, MLPDecoder), "conv": (ConvEncoder, ConvDecoder)}[self.coder]
        self.encoder: Callable[[Array], Array] = make[0](*sizes)
        self.decoder: Callable[[Array], Observed] = make[1](self.shape, *sizes)


def check(coder: Coder, shape: Sequence[int], width: int, depth: int) -> None:
    """Raise ValueError for sizes that are out of range, or for a coder that does not fit the shape of the data."""
    if width < 4 or width % 4:
        raise ValueError(f"width={width}: must be a multiple of 4")
    if depth < 1:
        raise ValueError(f"depth={depth}: must be 1 or more")
    if coder == "conv" and len(shape) != 3:
        raise ValueError(f"coder={coder!r}: must be 'mlp' for data of shape {tuple(shape)}, which are not images")


def _channels(width: int, k: int) -> int:
    """Number of channels at the resolution whose sides are 1/2ᵏ of the image's."""
    return width // 4 * 2 ** min(k, MOST_DOUBLINGS)


def _observed(raw: Float[Array, "batch *data 2"]) -> Observed:
    return Observed(raw[..., 0], within(raw[..., 1], *GAMMAS))
