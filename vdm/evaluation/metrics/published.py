"""Networks with published weights for feature extractors: files, checksums, names and shapes of tensors."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

Shape = tuple[int, ...]


class Network(NamedTuple):
    """A network with published weights."""

    file: str
    """Name of the published file."""
    checksums: frozenset[str]
    """SHA-256 of the files known to hold the published weights."""
    tensors: Mapping[str, Shape]
    """Names and shapes in PyTorch of the tensors that the network needs."""


def _inception() -> Iterator[tuple[str, Shape]]:
    """Inception-v3 from TensorFlow's graph of 2015-12-05, under torchvision's names."""
    for name, shape in _convolutions():
        yield f"{name}.conv.weight", shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.bn.{part}", shape[:1]
    yield "fc.weight", (1008, 2048)
    yield "fc.bias", (1008,)


def _convolutions() -> Iterator[tuple[str, Shape]]:
    """Yield (name, (channels out, in, height, width)) of all convolutions."""
    yield "Conv2d_1a_3x3", (32, 3, 3, 3)
    yield "Conv2d_2a_3x3", (32, 32, 3, 3)
    yield "Conv2d_2b_3x3", (64, 32, 3, 3)
    yield "Conv2d_3b_1x1", (80, 64, 1, 1)
    yield "Conv2d_4a_3x3", (192, 80, 3, 3)
    blocks: dict[str, dict[str, Shape]] = {
        "5b": _block_a(192, 32), "5c": _block_a(256, 64), "5d": _block_a(288, 64), "6a": _block_b(288),
        "6b": _block_c(128), "6c": _block_c(160), "6d": _block_c(160), "6e": _block_c(192),
        "7a": _block_d(768), "7b": _block_e(1280), "7c": _block_e(2048),
    }  # fmt: skip
    for block, branches in blocks.items():
        for branch, shape in branches.items():
            yield f"Mixed_{block}.branch{branch}", shape


def _block_a(channels: int, pooled: int) -> dict[str, Shape]:
    return {
        "1x1": (64, channels, 1, 1),
        "5x5_1": (48, channels, 1, 1),
        "5x5_2": (64, 48, 5, 5),
        "3x3dbl_1": (64, channels, 1, 1),
        "3x3dbl_2": (96, 64, 3, 3),
        "3x3dbl_3": (96, 96, 3, 3),
        "_pool": (pooled, channels, 1, 1),
    }


def _block_b(channels: int) -> dict[str, Shape]:
    return {
        "3x3": (384, channels, 3, 3),
        "3x3dbl_1": (64, channels, 1, 1),
        "3x3dbl_2": (96, 64, 3, 3),
        "3x3dbl_3": (96, 96, 3, 3),
    }


def _block_c(inner: int, channels: int = 768) -> dict[str, Shape]:
    return {
        "1x1": (192, channels, 1, 1),
        "7x7_1": (inner, channels, 1, 1),
        "7x7_2": (inner, inner, 1, 7),
        "7x7_3": (192, inner, 7, 1),
        "7x7dbl_1": (inner, channels, 1, 1),
        "7x7dbl_2": (inner, inner, 7, 1),
        "7x7dbl_3": (inner, inner, 1, 7),
        "7x7dbl_4": (inner, inner, 7, 1),
        "7x7dbl_5": (192, inner, 1, 7),
        "_pool": (192, channels, 1, 1),
    }


def _block_d(channels: int) -> dict[str, Shape]:
    return {
        "3x3_1": (192, channels, 1, 1),
        "3x3_2": (320, 192, 3, 3),
        "7x7x3_1": (192, channels, 1, 1),
        "7x7x3_2": (192, 192, 1, 7),
        "7x7x3_3": (192, 192, 7, 1),
        "7x7x3_4": (192, 192, 3, 3),
    }


def _block_e(channels: int) -> dict[str, Shape]:
    return {
        "1x1": (320, channels, 1, 1),
        "3x3_1": (384, channels, 1, 1),
        "3x3_2a": (384, 384, 1, 3),
        "3x3_2b": (384, 384, 3, 1),
        "3x3dbl_1": (448, channels, 1, 1),
        "3x3dbl_2": (384, 448, 3, 3),
        "3x3dbl_3a": (384, 384, 1, 3),
        "3x3dbl_3b": (384, 384, 3, 1),
        "_pool": (192, channels, 1, 1),
    }


def dinov2_tensors(width: int, depth: int, grid: int = 37, patch: int = 14) -> dict[str, Shape]:
    """Return the tensors of a vision transformer as DINOv2 publishes it, for images of `grid` × `grid` patches."""
    tensors: dict[str, Shape] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + grid * grid, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    block: dict[str, Shape] = {"ls1.gamma": (width,), "ls2.gamma": (width,)}
    for norm in ("norm1", "norm2"):
        block |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linear |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for layer, shape in linear.items():
        block |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
    return tensors | {f"blocks.{k}.{name}": shape for k in range(depth) for name, shape in block.items()}


NETWORKS = {
    "inception": Network(
        "pt_inception-2015-12-05-6726825d.pth",
        frozenset({"6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"}),
        dict(_inception()),
    ),
    # The second checksum is that of model.safetensors of facebook/dinov2-base and -large.
    "dinov2_vitb14": Network(
        "dinov2_vitb14_pretrain.pth",
        frozenset(
            {
                "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
                "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
            }
        ),
        dinov2_tensors(768, 12),
    ),
    "dinov2_vitl14": Network(
        "dinov2_vitl14_pretrain.pth",
        frozenset(
            {
                "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
                "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
            }
        ),
        dinov2_tensors(1024, 24),
    ),
}
"""By the name used for our files of their weights."""
