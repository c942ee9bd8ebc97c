"""Self-attention over the pixels of an image or the tokens of a sequence, fused on a GPU in bfloat16."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from vdm.networks.normalization import Norm, whole
from vdm.precisions import AMPERE, HOPPER, compute_capability


class Context(NamedTuple):
    """What attention sees besides the image itself: the tokens of a caption."""

    tokens: Float[Array, "batch length width"]
    mask: Bool[Array, "batch length"]
    """True for tokens of the caption, False for padding."""


class SelfAttention(nn.Module):
    """x + linear(attention over all pixels of norm(x)), with the last linear map initialized to zero.

    With a context, its tokens join the keys and values (Nichol et al. 2022, §2.1).
    """

    heads: int
    groups: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, context: Context | None = None) -> Array:
        x = whole(x)
        batch, height, width, channels = x.shape
        h = Norm(self.groups, swish=False, dtype=self.dtype, name="norm")(x).reshape(batch, height * width, channels)
        h = attended(h, self.heads, self.dtype, nn.initializers.lecun_normal(), nn.initializers.zeros, context)
        return x + h.reshape(x.shape)


def attended(
    x: Float[Array, "batch tokens channels"],
    heads: int,
    dtype: DTypeLike,
    kernel_init: Initializer,
    out_init: Initializer,
    context: Context | None = None,
    mask: Bool[Array, "batch tokens"] | None = None,
) -> Float[Array, "batch tokens channels"]:
    """Return linear(attention over all tokens, or those in `mask`).

    The layers "query", "key", "value" and "out" belong to the calling module. The tokens of a context have their own
    layers, "context_key" and "context_value".
    """
    batch, tokens, channels = x.shape

    def linear(name: str, of: Array) -> Array:
        h = nn.Dense(channels, kernel_init=kernel_init, dtype=dtype, name=name)(of)
        return h.reshape(batch, -1, heads, channels // heads)

    query, key, value = (linear(name, x) for name in ("query", "key", "value"))
    if context is not None:
        of_context = context.tokens.astype(dtype)
        key = jnp.concatenate([key, linear("context_key", of_context)], axis=1)
        value = jnp.concatenate([value, linear("context_value", of_context)], axis=1)
        own = jnp.ones((batch, tokens), bool) if mask is None else mask
        mask = jnp.concatenate([own, context.mask], axis=1)
    h = attend(query, key, value, mask).reshape(x.shape)
    return nn.Dense(channels, kernel_init=out_init, dtype=dtype, name="out")(h)


def attend(
    query: Float[Array, "batch pixels heads channels"],
    key: Float[Array, "batch keys heads channels"],
    value: Float[Array, "batch keys heads channels"],
    mask: Bool[Array, "batch keys"] | None = None,
) -> Float[Array, "batch pixels heads channels"]:
    """Return softmax(query keyᵀ/√channels) value over the keys in `mask`, by cuDNN for bfloat16 on a GPU.

    The softmax is computed in float32. JAX never selects cuDNN's fused attention by itself, and can trace it only on a
    machine with a suitable GPU; programs lowered there for other platforms use `plain_attention`. With a mask, cuDNN's
    backward pass needs even numbers of pixels and keys.
    """
    even = mask is None or query.shape[1] % 2 == key.shape[1] % 2 == 0
    sized = query.shape[-1] % 8 == 0 and query.shape[-1] <= largest_fused_head()
    if query.dtype == jnp.bfloat16 and sized and even:

        def fused(query: Array, key: Array, value: Array) -> Array:
            batch, pixels = query.shape[:2]
            seen = None if mask is None else jnp.broadcast_to(mask[:, None, None], (batch, 1, pixels, mask.shape[1]))
            return jax.nn.dot_product_attention(query, key, value, mask=seen, implementation="cudnn")

        plain = functools.partial(plain_attention, mask=mask)
        return jax.lax.platform_dependent(query, key, value, cuda=fused, default=plain)
    return plain_attention(query, key, value, mask)


def plain_attention(
    query: Float[Array, "batch pixels heads channels"],
    key: Float[Array, "batch keys heads channels"],
    value: Float[Array, "batch keys heads channels"],
    mask: Bool[Array, "batch keys"] | None = None,
) -> Float[Array, "batch pixels heads channels"]:
    """Return softmax(query keyᵀ/√channels) value over the keys in `mask`, with the softmax in float32.

    The result is 0 for an example without any key.

    >>> query, key = jnp.ones((2, 4, 1, 8)), jnp.ones((2, 6, 1, 8))
    >>> plain_attention(query, key, key).shape
    (2, 4, 1, 8)
    """
    batch, pixels, heads, channels = query.shape
    # On a CPU, passes over pixels² values, above all transpositions, cost more than the products. So the products have
    # one leading axis, and the softmax is divided by its sum after the sum over keys, on `channels` values per pixel.
    query, key, value = (x.swapaxes(1, 2).reshape(-1, x.shape[1], channels) for x in (query, key, value))
    scores = jnp.einsum("bqc,bkc->bqk", query * channels**-0.5, key, preferred_element_type=jnp.float32)
    if mask is not None:
        scores = jnp.where(jnp.repeat(mask, heads, axis=0)[:, None, :], scores, -jnp.inf)
    highest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - (highest if mask is None else jnp.maximum(highest, jnp.finfo(jnp.float32).min)))
    h = jnp.einsum("bqk,bkc->bqc", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    h = (h / (total if mask is None else jnp.where(total > 0, total, 1))).astype(value.dtype)
    return h.reshape(batch, heads, pixels, channels).swapaxes(1, 2)


def largest_fused_head() -> int:
    """Return the most channels per head that cuDNN's attention supports on this process's GPUs, or 0 without it.

    Head sizes must also be multiples of 8. The limit is 128 on NVIDIA's Ampere and Ada, and 256 from Hopper on, the
    size of the single head of the ImageNet configs.
    """
    if jax.default_backend() != "gpu":
        return 0
    capability = compute_capability(jax.local_devices()[0])
    if capability < AMPERE:
        return 0
    return 256 if capability >= HOPPER else 128


def check_heads(heads: int, channels: int) -> None:
    """Raise ValueError unless `heads` divides `channels`."""
    if heads < 1 or channels % heads:
        raise ValueError(f"heads={heads}: must be a divisor of channels={channels}")
