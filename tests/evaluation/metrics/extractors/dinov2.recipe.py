"""What `dinov2.npz` beside this is made of: features and resizing by PyTorch, of weights and images from a seed.

    PYTHON dinov2.recipe.py     # recorded with torch 2.14.1 and transformers 5.24.0, on a CPU

The network is transformers' `Dinov2Model`, in float32, and from the images on in float64 too. Its own interpolation of
the position embeddings is left out, as it is not that of the authors' code: `torch.nn.functional.interpolate` does it
as there (facebookresearch/dinov2, the method `interpolate_pos_encoding`, with `interpolate_offset=0.1` and
`interpolate_antialias=False`, as PyTorch Hub's models without registers have). Images are prepared as NVlabs/edm2's
`calculate_metrics.py` does.
"""

from pathlib import Path

import numpy as np

WIDTH, DEPTH, HEADS, GRID, PATCH = 48, 3, 3, 37, 14

# (height, width, channels); two images of each.
SHAPES = [(8, 8, 1), (17, 40, 3), (32, 32, 3), (64, 64, 1), (224, 224, 3), (256, 256, 3), (299, 299, 3), (299, 31, 1)]

# Sides before and after, of the antialiased resize; and of the position embeddings'.
RESIZED = [(1, 5), (8, 224), (32, 224), (223, 224), (224, 224), (299, 224), (256, 64), (300, 37), (7, 3)]
POSITIONS = [(37, 16), (16, 8), (5, 9)]


def state() -> dict[str, np.ndarray]:
    """Weights under the names of the published file, all of them such that features depend on them."""
    rng = np.random.default_rng(17)

    def draw(*shape: int, mean: float = 0.0, std: float = 0.2) -> np.ndarray:
        return rng.normal(mean, std, shape).astype(np.float32)

    tensors = {
        "cls_token": draw(1, 1, WIDTH),
        "pos_embed": draw(1, 1 + GRID**2, WIDTH, std=1.0),
        "patch_embed.proj.weight": draw(WIDTH, 3, PATCH, PATCH, std=0.1),
        "patch_embed.proj.bias": draw(WIDTH),
        "norm.weight": draw(WIDTH, mean=1.0),
        "norm.bias": draw(WIDTH),
    }
    layers = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
    layers |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
    for k in range(DEPTH):
        block = {}
        for norm in ("norm1", "norm2"):
            block |= {f"{norm}.weight": draw(WIDTH, mean=1.0), f"{norm}.bias": draw(WIDTH)}
        for layer, shape in layers.items():
            block |= {f"{layer}.weight": draw(*shape, std=2 * shape[1] ** -0.5), f"{layer}.bias": draw(shape[0])}
        block |= {"ls1.gamma": draw(WIDTH, mean=0.7), "ls2.gamma": draw(WIDTH, mean=0.7)}
        tensors |= {f"blocks.{k}.{name}": tensor for name, tensor in block.items()}
    return tensors


def images(shape: tuple[int, int, int]) -> np.ndarray:
    """Two images, uint8: noise, of which one is dark."""
    noise = np.random.default_rng(shape).integers(0, 256, (2, *shape))
    return (noise // np.array([1, 3]).reshape(2, 1, 1, 1)).astype(np.uint8)


def main() -> None:
    import torch
    from torch.nn.functional import interpolate
    from transformers import Dinov2Config, Dinov2Model

    def resize(values: torch.Tensor) -> torch.Tensor:
        return interpolate(values, size=(224, 224), mode="bicubic", antialias=True)

    def matrix(before: int, **options) -> np.ndarray:
        """Of a resize along the last axis: what becomes of each of `before` values that are 1 in turn."""
        turned = interpolate(torch.eye(before)[None, None], mode="bicubic", **options)
        return turned[0, 0].T.numpy()

    tensors = {name: torch.from_numpy(tensor) for name, tensor in state().items()}
    grid = tensors["pos_embed"][:, 1:].reshape(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
    scale = (16 + 0.1) / GRID
    grid = interpolate(grid, mode="bicubic", antialias=False, scale_factor=(scale, scale))
    tensors["pos_embed"] = torch.cat([tensors["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).reshape(1, 256, WIDTH)], 1)

    theirs = {
        "embeddings.cls_token": tensors["cls_token"],
        "embeddings.mask_token": torch.zeros(1, WIDTH),
        "embeddings.position_embeddings": tensors["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": tensors["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": tensors["patch_embed.proj.bias"],
        "layernorm.weight": tensors["norm.weight"],
        "layernorm.bias": tensors["norm.bias"],
    }
    for k in range(DEPTH):
        block, inner = f"blocks.{k}.", f"encoder.layer.{k}."
        for kind in ("weight", "bias"):
            three = tensors[f"{block}attn.qkv.{kind}"].chunk(3)
            for letter, part in zip("qkv", three, strict=True):
                theirs[f"{inner}attention.{letter}_proj.{kind}"] = part
            theirs[f"{inner}attention.o_proj.{kind}"] = tensors[f"{block}attn.proj.{kind}"]
            for same in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                theirs[f"{inner}{same}.{kind}"] = tensors[f"{block}{same}.{kind}"]
        for which in "12":
            theirs[f"{inner}layer_scale{which}.lambda1"] = tensors[f"{block}ls{which}.gamma"]
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=224, patch_size=PATCH
    )
    model = Dinov2Model(config).eval()
    model.load_state_dict(theirs)

    recorded = {}
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        for kind, dtype in (("float32", torch.float32), ("float64", torch.float64)):
            for shape in SHAPES:
                pixels = torch.from_numpy(images(shape)).permute(0, 3, 1, 2).to(dtype)
                pixels = resize(pixels.expand(-1, 3, -1, -1)) / 255
                pixels = (pixels - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)
                features = model.to(dtype)(pixels.to(dtype)).pooler_output
                recorded[f"{kind} " + " ".join(map(str, shape))] = features.numpy()
    for before, after in RESIZED:
        recorded[f"resized {before} {after}"] = matrix(before, size=(before, after), antialias=True)
    for before, after in POSITIONS:
        recorded[f"positions {before} {after}"] = matrix(before, scale_factor=(1.0, (after + 0.1) / before))
    np.savez_compressed(Path(__file__).with_name("dinov2.npz"), **recorded)


if __name__ == "__main__":
    main()
