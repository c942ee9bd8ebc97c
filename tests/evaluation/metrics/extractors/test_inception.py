"""FID's Inception-v3 against torch-fidelity's, by what inception_features.recipe.py recorded of it."""

import ast
from pathlib import Path
from typing import Any

import inception_state
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.evaluation.metrics.extractors import inception

PEER = dict(np.load(Path(__file__).with_name("inception_features.npz")))
TENSORS = {name: ast.literal_eval(shape) for name, shape in (line.split(" ", 1) for line in bytes(PEER["tensors"]).decode().splitlines())}


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return inception_state.state(TENSORS)


@pytest.fixture(scope="module")
def variables(state: dict[str, np.ndarray]) -> Any:
    return inception.variables(state)


@pytest.fixture(scope="module")
def features(variables: Any) -> dict[str, np.ndarray]:
    """Of all images by output, in one batch: images of any size are of one when the network sees them."""
    seen = jnp.concatenate([inception.seen(jnp.asarray(image)) for image in inception_state.images()])
    found = inception.features(variables, seen, tuple(inception.OUTPUTS))
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("output", inception.OUTPUTS)
def test_features_are_the_peers(features: dict[str, np.ndarray], output: str) -> None:
    """Of every image, in relation to its largest."""
    peer = PEER[output]
    assert features[output].shape == peer.shape == (5, inception.OUTPUTS[output])
    error = np.abs(features[output] - peer).max(axis=1) / np.abs(peer).max(axis=1)
    print(error)
    assert error.max() < 1e-5
