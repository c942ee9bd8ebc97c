"""The VDM denoiser: a residual network at full resolution with skip concatenation (Kingma et al. 2021, §J)."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.networks.convolution import Conv
from vdm.networks.embeddings import ConditionEmbedding, fourier_exponents, fourier_features, time_embedding
from vdm.networks.normalization import Norm
from vdm.precisions import AMPERE, HOPPER, compute_capability

ATTENTION = ("middle", "everywhere")


class UNet(nn.Module):
    """z + network([z, Fourier features of z], γ), or without the z; shapes (batch, height, width, channels) in and out.

    `depth` residual blocks down, one more up, no change of resolution; each block up also sees the output of its
    mirror image down. The last layer starts at zero, so the result is z, or 0, at first. Any image size and number of
    channels.

    Parameters are float32. With dtype bfloat16 the blocks compute in it; the ends stay float32: the embedding of γ, the
    Fourier features, the first and the last convolution; and within the blocks statistics of normalisation and softmax.

    >>> network = UNet(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
    >>> z = jnp.ones((2, 4, 4, 1))
    >>> params = network.init(jax.random.key(0), z, jnp.zeros(2))
    >>> network.apply(params, z, jnp.zeros(2)).shape
    (2, 4, 4, 1)
    """

    channels: int
    depth: int
    gamma_min: float
    """γ that the embedding sees as time 0. A constant of the network, also where the schedule is learned."""
    gamma_max: float
    """γ that the embedding sees as time 1."""
    fourier: Sequence[int] = (7, 8)
    """Exponents n of the input features sin(2ⁿπz), cos(2ⁿπz): (7, 8) for 8-bit data, see `fourier_exponents`."""
    attention: str = "middle"
    heads: int = 1
    dropout: float = 0.0
    groups: int | None = None
    """Groups of every normalisation; None: see `num_groups`."""
    residual: bool = True
    """Whether z is added to the result."""
    classes: int | None = None
    """Number of labels, where it is conditioned on them."""
    dtype: DTypeLike = jnp.float32
    """What blocks compute in."""
    remat: bool = False
    """Whether the backward pass computes each block anew from its input, instead of keeping all that is inside."""

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "batch height width channels"],
        gamma: Float[Array, ""] | Float[Array, " batch"],
        condition: Any = None,
        train: bool = False,
    ) -> Float[Array, "batch height width channels"]:
        """The predicted noise ε̂, or what else is predicted. With `train`, dropout draws from the stream "dropout".

        A condition joins the embedding of γ: see `ConditionEmbedding`.
        """
        time = (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        embedding = time_embedding(jnp.broadcast_to(time, z.shape[:1]), self.channels)
        cond = nn.Dense(4 * self.channels, name="embed_0")(embedding)
        if condition is not None:
            cond += ConditionEmbedding(4 * self.channels, self.classes, name="condition")(condition)
        cond = nn.swish(nn.Dense(4 * self.channels, name="embed_1")(nn.swish(cond)))

        # Argument 3 is `train`; 0 is self.
        residual_block = nn.remat(ResidualBlock, static_argnums=(3,)) if self.remat else ResidualBlock
        self_attention = nn.remat(SelfAttention) if self.remat else SelfAttention

        def block(h: Array, name: str) -> Array:
            h = residual_block(self.channels, self.dropout, self.groups, self.dtype, name=name)(h, cond, train)
            if self.attention == "everywhere" and not name.startswith("middle"):
                h = self_attention(self.heads, self.groups, self.dtype, name=f"{name}_attention")(h)
            return h

        h = jnp.concatenate([z, fourier_features(z, self.fourier)], axis=-1)
        h = Conv(self.channels, name="conv_in")(h, train).astype(self.dtype)
        skips = [h]
        for i in range(self.depth):
            h = block(h, f"down_{i}")
            skips.append(h)

        h = block(h, "middle_0")
        h = self_attention(self.heads, self.groups, self.dtype, name="middle_attention")(h)
        h = block(h, "middle_1")

        for i in range(self.depth + 1):
            h = block(jnp.concatenate([h, skips.pop()], axis=-1), f"up_{i}")

        h = Norm(self.groups, name="norm_out")(h)
        h = Conv(z.shape[-1], kernel_init=nn.initializers.zeros, name="conv_out")(h, train)
        return z + h if self.residual else h


class ResidualBlock(nn.Module):
    """x + conv(dropout(swish(norm(conv(swish(norm(x))) + linear(cond))))), the second convolution zero at first."""

    channels: int
    dropout: float
    groups: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, cond: Array, train: bool) -> Array:
        x = whole(x)
        groups, dtype, zeros = self.groups, self.dtype, nn.initializers.zeros
        h = Norm(groups, dtype=dtype, name="norm_0")(x)
        h = Conv(self.channels, dtype, name="conv_0")(h, train)
        shift = nn.Dense(self.channels, use_bias=False, kernel_init=zeros, dtype=dtype, name="condition")(cond)
        h = Norm(groups, dropout=self.dropout, dtype=dtype, name="norm_1")(h, shift, train)
        h = Conv(self.channels, dtype, zeros, name="conv_1")(h, train)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, dtype=dtype, name="shortcut")(x)
        return x + h


class SelfAttention(nn.Module):
    """x + linear(attention over all pixels of norm(x)), the last linear map zero at first."""

    heads: int
    groups: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = whole(x)
        batch, height, width, channels = x.shape
        h = Norm(self.groups, swish=False, dtype=self.dtype, name="norm")(x).reshape(batch, height * width, channels)
        heads = (batch, height * width, self.heads, channels // self.heads)
        query, key, value = (
            nn.Dense(channels, dtype=self.dtype, name=name)(h).reshape(heads) for name in ("query", "key", "value")
        )
        h = attend(query, key, value).reshape(batch, height, width, channels)
        return x + nn.Dense(channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="out")(h)


def whole(x: Array) -> Array:
    """x, which on a CPU is computed as a whole, and so is its gradient, before what comes next.

    XLA would there compute a sum of block after block anew in each block.
    """
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x


def attend(
    query: Float[Array, "batch pixels heads channels"],
    key: Float[Array, "batch pixels heads channels"],
    value: Float[Array, "batch pixels heads channels"],
) -> Float[Array, "batch pixels heads channels"]:
    """softmax(query keyᵀ/√channels) value, softmax in float32; in bfloat16 on a GPU fused, by cuDNN.

    JAX itself never chooses the fused one, and can trace it only where there is a GPU for it; programs that are lowered
    there for other platforms keep the other.
    """
    if query.dtype == jnp.bfloat16 and query.shape[-1] % 8 == 0 and query.shape[-1] <= largest_fused_head():
        fused = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
        return jax.lax.platform_dependent(query, key, value, cuda=fused, default=plain_attention)
    return plain_attention(query, key, value)


def plain_attention(
    query: Float[Array, "batch pixels heads channels"],
    key: Float[Array, "batch pixels heads channels"],
    value: Float[Array, "batch pixels heads channels"],
) -> Float[Array, "batch pixels heads channels"]:
    """softmax(query keyᵀ/√channels) value of each head, softmax in float32."""
    batch, pixels, heads, channels = query.shape
    # Passes over pixels² values, transposing ones above all, cost more on a CPU than the products do. So the products
    # have one leading axis, and the softmax's division comes after the sum over keys, on `channels` values a pixel.
    query, key, value = (x.swapaxes(1, 2).reshape(-1, pixels, channels) for x in (query, key, value))
    scores = jnp.einsum("bqc,bkc->bqk", query * channels**-0.5, key, preferred_element_type=jnp.float32)
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    h = jnp.einsum("bqk,bkc->bqc", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    h = (h / jnp.sum(weights, axis=-1, keepdims=True)).astype(value.dtype)
    return h.reshape(batch, heads, pixels, channels).swapaxes(1, 2)


def largest_fused_head() -> int:
    """Channels of a head, a multiple of 8 up to this, that cuDNN's attention takes on this process's GPUs; 0: none.

    128 on NVIDIA's Ampere and Ada, 256 from Hopper on: the single head of the ImageNet configs.
    """
    if jax.default_backend() != "gpu":
        return 0
    capability = compute_capability(jax.local_devices()[0])
    if capability < AMPERE:
        return 0
    return 256 if capability >= HOPPER else 128


def unet(
    channels: int = 128,
    depth: int = 32,
    attention: str = "middle",
    heads: int = 1,
    groups: int | None = None,
    dropout: float = 0.0,
    fourier: tuple[int, ...] | None = None,
    residual: bool = True,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    levels: int = 256,
    classes: int | None = None,
    dtype: str = "float32",
    remat: bool = False,
) -> UNet:
    """The residual network at full resolution of Kingma et al. (2021, §J), as a config names it: see `UNet`.

    Without `fourier`, the exponents of the input's features are those for data of `levels` values. Raises ValueError
    for sizes that do not go together.

    >>> network = unet(channels=8, depth=1, levels=17)
    >>> network.fourier
    (3, 4)
    """
    if attention not in ATTENTION:
        raise ValueError(f"attention={attention!r}: must be one of {', '.join(ATTENTION)}")
    if heads < 1 or channels % heads:
        raise ValueError(f"heads={heads}: must be a divisor of channels={channels}")
    if groups is not None and (groups < 1 or channels % groups):
        raise ValueError(f"groups={groups}: must be a divisor of channels={channels}, or None")
    return UNet(
        channels=channels,
        depth=depth,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        fourier=fourier_exponents(levels) if fourier is None else fourier,
        attention=attention,
        heads=heads,
        groups=groups,
        dropout=dropout,
        residual=residual,
        classes=classes,
        dtype=jnp.dtype(dtype),
        remat=remat,
    )
