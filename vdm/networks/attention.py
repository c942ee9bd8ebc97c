"""Self-attention over the pixels of an image or the tokens of a sequence; on a GPU, in bfloat16, fused."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.networks.normalization import Norm, whole
from vdm.precisions import AMPERE, HOPPER, compute_capability


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
        h = attended(h, self.heads, self.dtype, nn.initializers.lecun_normal(), nn.initializers.zeros)
        return x + h.reshape(x.shape)


def attended(
    x: Float[Array, "batch tokens channels"],
    heads: int,
    dtype: DTypeLike,
    kernel_init: Initializer,
    out_init: Initializer,
) -> Float[Array, "batch tokens channels"]:
    """linear(attention over all tokens): layers "query", "key", "value" and "out" of the module that calls it."""
    batch, tokens, channels = x.shape
    shape = (batch, tokens, heads, channels // heads)
    query, key, value = (
        nn.Dense(channels, kernel_init=kernel_init, dtype=dtype, name=name)(x).reshape(shape)
        for name in ("query", "key", "value")
    )
    h = attend(query, key, value).reshape(x.shape)
    return nn.Dense(channels, kernel_init=out_init, dtype=dtype, name="out")(h)


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


def check_heads(heads: int, channels: int) -> None:
    """Raises ValueError for heads of which not all have as many of the channels."""
    if heads < 1 or channels % heads:
        raise ValueError(f"heads={heads}: must be a divisor of channels={channels}")
