"""FID's Inception-v3 against torch-fidelity's, by what inception_features.recipe.py recorded of it."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inception_state
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import parallel, parts
from vdm.evaluation.metrics import published, weights
from vdm.evaluation.metrics.extractors import Extractor, inception

with np.load(Path(__file__).with_name("inception_features.npz")) as file:
    PEER = dict(file)
TENSORS = dict(line.split(" ", 1) for line in PEER.pop("tensors").tobytes().decode().splitlines())
TENSORS = {name: ast.literal_eval(shape) for name, shape in TENSORS.items()}
OUTPUTS = tuple(inception.OUTPUTS)
BATCH = 8
"""On as many devices."""


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return inception_state.state(TENSORS)


@pytest.fixture(scope="module")
def extractor(state: dict[str, np.ndarray]) -> Extractor:
    """As programs make it, for images of 17 levels; its weights on all devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "load", lambda name, path: weights.Weights(state, f"{name} of {path.name}"))
        made = parts.make("extractor", "inception", weights=Path("seed"), levels=17, shape=(8, 8, 1))
    on_devices = jax.device_put(made.variables, parallel.replicated(parallel.make_mesh(BATCH)))
    object.__setattr__(made, "variables", on_devices)
    return made


def spread(images: jax.Array) -> jax.Array:
    return jax.device_put(images, parallel.batch_sharding(parallel.make_mesh(BATCH)))


@pytest.fixture(scope="module")
def features(extractor: Extractor) -> dict[str, jax.Array]:
    """Of all images by output, the first ones twice, an image a device.

    Images of any size are of one size when the network sees them, so that it is compiled once.
    """
    seen = [inception.seen(jnp.asarray(image)) for image in inception_state.images()]
    return inception.features(extractor.variables, spread(jnp.concatenate(seen + seen[: BATCH - len(seen)])), OUTPUTS)


@pytest.mark.parametrize("output", OUTPUTS)
def test_features_are_the_peers(features: dict[str, jax.Array], output: str) -> None:
    """Of images of all sizes, in relation to the largest of each image; on eight devices."""
    found, peer = features[output], PEER[output]
    num = len(peer)
    assert found.shape == (BATCH, inception.OUTPUTS[output])
    assert peer.shape == (num, inception.OUTPUTS[output])
    assert found.sharding.is_equivalent_to(parallel.batch_sharding(parallel.make_mesh(BATCH)), 2)
    error = np.abs(found[:num] - peer).max(axis=1) / np.abs(peer).max(axis=1)
    assert error.max() < 1e-5
    np.testing.assert_array_equal(found[num:], found[: BATCH - num])


def test_values_of_other_levels_are_those_of_8_bits(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extractor's own images, of 17 levels, are 0, 16, 32, 48, 64, 80, 96, 112, 128, 143, … of 256."""
    monkeypatch.setattr(inception, "features", lambda variables, x, outputs: {"seen": x})
    image = inception_state.images()[0] % 17
    table = np.array([round(255 * k / 16) for k in range(17)], np.uint8)
    seen = extractor.apply(extractor.variables, jnp.asarray(image), OUTPUTS)["seen"]
    np.testing.assert_array_equal(seen, inception.seen(jnp.asarray(table[image])))
    assert np.asarray(seen).max() > 0.5


def test_only_what_is_asked_for_in_float32() -> None:
    """Of colour images of any size. All products are marked, or a GPU would round their factors to TF32."""
    images = jax.ShapeDtypeStruct((2, 40, 30, 3), jnp.uint8)
    traced = jax.jit(inception.apply, static_argnums=2).trace(inception.shapes(), images, ("spatial", "pool"))
    assert {name: x.shape for name, x in traced.out_info.items()} == {"spatial": (2, 2023), "pool": (2, 2048)}
    products = re.findall(r"stablehlo\.(?:convolution|dot_general).*", traced.lower().as_text())
    convolutions = sum(name.endswith("conv.weight") for name in TENSORS)
    assert len(products) == convolutions  # without that of the logits
    assert all("HIGHEST" in line for line in products)


def test_names_and_shapes_of_the_weights_are_the_peers() -> None:
    assert published.NETWORKS["inception"].tensors == TENSORS


def test_the_identity_says_what_features_depend_on(extractor: Extractor) -> None:
    for text in ("inception of seed", "17 levels", "bilinear"):
        assert text in extractor.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("Mixed_6d.branch1x1.bn.running_var"), "no tensor Mixed_6d.branch1x1.bn.running_var"),
        (
            lambda state: state.update({"fc.weight": np.zeros((1000, 2048))}),
            r"fc.weight: is of shape \(1000, 2048\)",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    state: dict[str, np.ndarray], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    changed = dict(state)
    change(changed)
    with pytest.raises(ValueError, match=message):
        inception.variables(changed)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_other_channels_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"have {channels} channels; must have 1 \(gray\) or 3"):
        inception.seen(jnp.zeros((1, 8, 8, channels), jnp.uint8))
