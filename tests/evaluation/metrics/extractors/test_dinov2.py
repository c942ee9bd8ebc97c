"""DINOv2 against PyTorch's numbers, which `dinov2.recipe.py` has recorded."""

import functools
import re
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct, export

from vdm import safetensors
from vdm.evaluation.metrics import published, weights
from vdm.evaluation.metrics.extractors.bicubic import antialiased, cubic, interpolated
from vdm.evaluation.metrics.extractors.dinov2 import class_token, dinov2, prepared, variables_of
from vdm.npz import read_npz
from vdm.precisions import products

HERE = Path(__file__).parent
RECIPE = runpy.run_path(str(HERE / "dinov2.recipe.py"))
RECORDED = read_npz(HERE / "dinov2.npz")
HEADS = RECIPE["HEADS"]


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = RECIPE["state"]()
    return made


@pytest.fixture(scope="module")
def variables(state: dict[str, np.ndarray]) -> dict[str, Any]:
    return variables_of(state)


@jax.jit
def features(variables: Any, pixels: jax.Array) -> jax.Array:
    with products("float32"):
        return class_token(variables, pixels, HEADS)


def largest_error(found: Any, wanted: np.ndarray) -> float:
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("shape", RECIPE["SHAPES"], ids=lambda shape: "x".join(map(str, shape)))
def test_features_are_pytorchs(variables: dict[str, Any], shape: tuple[int, int, int]) -> None:
    with products("float32"):
        pixels = prepared(jnp.asarray(RECIPE["images"](shape)))
    found = features(variables, pixels)
    single, double = (RECORDED[f"{kind} " + " ".join(map(str, shape))] for kind in ("float32", "float64"))
    assert np.abs(double[0] - double[1]).max() > 1  # they say which image it was
    # PyTorch's own weights of a resize to 224, in float32, are off by up to 2e-5.
    assert largest_error(found, single) < 5e-5
    assert largest_error(found, double) < 5e-6


@pytest.mark.parametrize(("before", "after"), RECIPE["RESIZED"])
def test_the_resize_is_pytorchs_antialiased_bicubic_one(before: int, after: int) -> None:
    found = antialiased(before, after)
    np.testing.assert_allclose(found, RECORDED[f"resized {before} {after}"], atol=2e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(("before", "after"), RECIPE["POSITIONS"])
def test_positions_are_interpolated_as_by_pytorch_with_the_authors_offset(before: int, after: int) -> None:
    step = before / (after + 0.1)
    np.testing.assert_allclose(interpolated(before, after, step), RECORDED[f"positions {before} {after}"], atol=1e-5)


def test_the_kernel_interpolates() -> None:
    """It is 1 at 0, 0 at other whole numbers, and its shifts add up to 1."""
    for slope in (-0.5, -0.75):
        np.testing.assert_array_equal(cubic(np.arange(-3.0, 4), slope), [0, 0, 0, 1, 0, 0, 0])
        shifts = np.arange(-3, 4)[:, None] + np.linspace(0, 1, 11)
        np.testing.assert_allclose(cubic(shifts, slope).sum(axis=0), 1, atol=1e-12)


def test_positions_of_the_right_number_stay(state: dict[str, np.ndarray]) -> None:
    fewer = state | {"pos_embed": state["pos_embed"][:, : 1 + 16 * 16]}
    np.testing.assert_array_equal(variables_of(fewer)["positions"], fewer["pos_embed"][:, 1:])


def test_the_extractor(state: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file of weights to features, of images of fewer levels, those of the same images of 256."""
    width, depth = 64, 1
    small = published.Network("small.pth", frozenset(), published.dinov2_tensors(width, depth))
    monkeypatch.setitem(published.NETWORKS, "dinov2_vitb14", small)
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in small.tensors.items()}
    metadata = {weights.NETWORK: "dinov2_vitb14", weights.CHECKSUM: weights.checksum(tensors)}
    safetensors.write(tmp_path / "dinov2_vitb14.safetensors", tensors, metadata)

    extractor = dinov2("b", tmp_path)
    assert extractor.outputs == {"cls": width}
    assert extractor.identity.startswith("DINOv2 ViT-B/14, weights ")
    assert "(unknown weights)" in extractor.identity
    images = rng.integers(0, 17, (2, 8, 8, 1)).astype(np.uint8)
    eight_bit = np.round(images * (255 / 16)).astype(np.uint8)
    run = functools.partial(jax.jit, static_argnums=2)
    few = run(dinov2("b", tmp_path, levels=17).apply)(extractor.variables, jnp.asarray(images), ("cls",))["cls"]
    full = run(extractor.apply)(extractor.variables, jnp.asarray(eight_bit), ("cls",))["cls"]
    assert full.shape == (2, width)
    assert full.dtype == jnp.float32
    np.testing.assert_array_equal(few, full)
    with pytest.raises(ValueError, match=r"size='g': must be one of b, l"):
        dinov2("g", tmp_path)


@pytest.mark.parametrize(("size", "width", "depth"), [("b", 768, 12), ("l", 1024, 24)])
def test_the_published_networks_lower_for_cuda_and_tpu(
    size: str, width: int, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one block the weights are made, and none computed with. Every product is marked as float32's."""
    tensors = published.dinov2_tensors(width, depth)
    zeros = {
        name: np.zeros(shape, np.float32) for name, shape in tensors.items() if not re.match(r"blocks\.[^0]", name)
    }
    monkeypatch.setattr(weights, "load", lambda name, path: weights.Weights(zeros, name))
    extractor = dinov2(size)
    assert extractor.identity.startswith(f"DINOv2 ViT-{size.upper()}/14, weights dinov2_vit{size}14")
    variables = jax.tree.map(lambda leaf: ShapeDtypeStruct(leaf.shape, leaf.dtype), extractor.variables)
    blocks = variables["blocks"].items()
    variables["blocks"] = {name: ShapeDtypeStruct((depth, *leaf.shape[1:]), leaf.dtype) for name, leaf in blocks}

    apply = jax.jit(extractor.apply, static_argnums=2)
    exported = export.export(apply, platforms=["cuda", "tpu"])(
        variables, ShapeDtypeStruct((64, 32, 32, 3), jnp.uint8), ("cls",)
    )
    assert [found.shape for found in exported.out_avals] == [(64, width)]
    module = exported.mlir_module()
    assert re.findall(r"custom_call @(\w+)|(?:infeed|outfeed|send|recv)\"?\(", module) == []
    factors = [line for line in module.splitlines() if "stablehlo.dot_general" in line]
    # For each platform two to resize, one for the patches, and six in the loop over blocks.
    assert len(factors) == 2 * (2 + 1 + 6)
    assert all("HIGHEST" in line for line in factors)
