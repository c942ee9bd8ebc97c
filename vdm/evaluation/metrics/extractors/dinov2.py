"""DINOv2's vision transformers (Oquab et al., 2023): the features of FD-DINOv2 (Stein et al., 2023)."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vdm.evaluation.metrics import weights as weights_lib
from vdm.evaluation.metrics.extractors.bicubic import antialiased, interpolated
from vdm.evaluation.metrics.extractors.extractor import Extractor, eight_bit
from vdm.networks.attention import plain_attention
from vdm.precisions import FLOAT32, products

SIZE, PATCH = 224, 14
"""Side, in pixels, of the images that the network sees, and of a patch: 16 × 16 patches."""

HEAD = 64
"""Channels per attention head."""

OFFSET = 0.1
"""Added to the 16 patches per side in the spacing of the resized position embeddings."""

EPSILON = 1e-6
"""Added to the variance in layer normalization."""

# Mean and standard deviation of ImageNet's pixels in [0, 1].
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NAMES = {"b": "ViT-B/14", "l": "ViT-L/14"}


def dinov2(size: str = "l", weights: Path | None = None, levels: int = 256) -> Extractor:
    """The normalized class token of DINOv2's ViT-B/14 ("b", 768 features) or ViT-L/14 ("l", 1024), without registers.

    Images are prepared as Karras et al. (2024) do for FD-DINOv2: resized to 224 × 224 by antialiased bicubic
    interpolation, neither rounded nor clipped, then normalized by ImageNet's mean and standard deviation. Stein et al.
    resize by Pillow, which rounds.

    Raises ValueError for another size, and as `weights.load` does.

    >>> dinov2("b").outputs  # doctest: +SKIP
    {'cls': 768}
    """
    if size not in NAMES:
        raise ValueError(f"size={size!r}: must be one of {', '.join(NAMES)}")
    state, digest = weights_lib.load(f"dinov2_vit{size}14", weights)
    variables = variables_of(state)
    title = f"DINOv2 {NAMES[size]}"
    return Extractor(
        title=title,
        identity=f"{title}, weights {digest}, resized by PyTorch's antialiased bicubic rule from {levels} levels",
        outputs={"cls": variables["class_token"].size},
        variables=variables,
        apply=functools.partial(apply, levels=levels),
    )


def apply(variables: Any, images: Array, outputs: tuple[str, ...], levels: int = 256) -> dict[str, Array]:
    """See `Extractor.apply`; images may have any size, and one channel or three."""
    with products(FLOAT32):
        return dict.fromkeys(outputs, class_token(variables, prepared(images, levels)))


def prepared(images: Array, levels: int = 256) -> Float[Array, "batch 224 224 3"]:
    """Prepare uint8 images of any size for the network."""
    rows, columns = (np.float32(antialiased(side, SIZE)) for side in images.shape[1:3])
    pixels = jnp.einsum("oh,bhwc->bowc", rows, eight_bit(images, levels))
    pixels = jnp.einsum("pw,bowc->bopc", columns, pixels)
    mean, std = (jnp.array(three, jnp.float32).reshape(1, 1, 1, 3) for three in (MEAN, STD))
    return (pixels / 255 - mean) / std


def variables_of(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the variables of `class_token` from the tensors of the published file, for any width and depth.

    Blocks are stacked along a leading axis. The position embeddings, learned for 37 × 37 patches, are resized to
    16 × 16 as in the authors' code for PyTorch Hub, with its spacing of 37 / 16.1. Hugging Face uses 37 / 16, and timm
    antialiases, so their features differ.
    """
    patches = SIZE // PATCH
    grid = math.isqrt(state["pos_embed"].shape[1] - 1)
    positions = state["pos_embed"][0, 1:].reshape(grid, grid, -1)
    resize = interpolated(grid, patches, grid / (patches + OFFSET)) if grid != patches else np.eye(grid)
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    block = [name.removeprefix("blocks.0.") for name in state if name.startswith("blocks.0.")]
    tree = {
        "patch": np.transpose(state["patch_embed.proj.weight"], (2, 3, 1, 0)),
        "patch_bias": _along_last(state["patch_embed.proj.bias"]),
        "class_token": state["cls_token"] + state["pos_embed"][:, :1],
        "positions": np.einsum("oh,pw,hwc->opc", resize, resize, positions).reshape(1, patches**2, -1),
        "blocks": {name: np.stack([_along_last(state[f"blocks.{k}.{name}"]) for k in range(depth)]) for name in block},
        "norm.weight": _along_last(state["norm.weight"]),
        "norm.bias": _along_last(state["norm.bias"]),
    }
    return jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), tree)


def _along_last(array: np.ndarray) -> np.ndarray:
    """Reshape a vector with one number per channel to (1, 1, channels); leave matrices unchanged."""
    return array[None, None] if array.ndim == 1 else array


def class_token(
    variables: Mapping[str, Any], pixels: Float[Array, "batch size size 3"], heads: int | None = None
) -> Float[Array, "batch width"]:
    """Return the normalized class token after all blocks; by default there are width / 64 attention `heads`."""
    width = variables["class_token"].size
    patches = jnp.einsum("byuxvc,uvcd->byxd", _cut(pixels, PATCH), variables["patch"])
    tokens = patches.reshape(len(pixels), -1, width) + variables["patch_bias"] + variables["positions"]
    first = jnp.tile(variables["class_token"], (len(pixels), 1, 1))
    tokens = jnp.concatenate([first, tokens], axis=1)
    step = functools.partial(_block, heads=heads or width // HEAD)
    tokens, _ = jax.lax.scan(step, tokens, variables["blocks"])
    return _normalized(variables, "norm", tokens[:, :1])[:, 0]


def _cut(pixels: Array, patch: int) -> Float[Array, "batch rows patch columns patch channels"]:
    batch, height, width, channels = pixels.shape
    return pixels.reshape(batch, height // patch, patch, width // patch, patch, channels)


def _block(
    tokens: Float[Array, "batch tokens width"], block: Mapping[str, Any], heads: int
) -> tuple[Float[Array, "batch tokens width"], None]:
    """Add attention and a two-layer network, each multiplied by a learned scale per channel, to the tokens."""
    batch, count, width = tokens.shape
    qkv = _linear(block, "attn.qkv", _normalized(block, "norm1", tokens))
    query, key, value = jnp.moveaxis(qkv.reshape(batch, count, 3, heads, width // heads), 2, 0)
    attended = plain_attention(query, key, value).reshape(tokens.shape)
    tokens = tokens + block["ls1.gamma"] * _linear(block, "attn.proj", attended)
    hidden = jax.nn.gelu(_linear(block, "mlp.fc1", _normalized(block, "norm2", tokens)), approximate=False)
    return tokens + block["ls2.gamma"] * _linear(block, "mlp.fc2", hidden), None


def _linear(variables: Mapping[str, Any], name: str, x: Array) -> Array:
    return jnp.einsum("...i,oi->...o", x, variables[f"{name}.weight"]) + variables[f"{name}.bias"]


def _normalized(variables: Mapping[str, Any], name: str, x: Array) -> Array:
    """Apply layer normalization."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON)
    return x * variables[f"{name}.weight"] + variables[f"{name}.bias"]
