"""The towers: unit captions, images as long as the scale, padding and equal captions, and both kinds of captions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm.networks.image_text import LARGEST_SCALE, TwoTowers, towers, unit

SMALL = {"features": 6, "channels": 4, "depth": 1, "text_channels": 8, "text_depth": 1}
Z = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
GAMMA = jnp.array([-3.0, 0.0, 2.0])
TEXT = jnp.array([[5, 7, 0, 0], [7, 5, 9, 3], [5, 7, 0, 0]])


@pytest.fixture(scope="module")
def network():
    return towers(vocabulary=12, **SMALL, dropout=0.5)


@pytest.fixture(scope="module")
def variables(network):
    with jax.numpy_dtype_promotion("standard"):
        return {"params": tiny.perturbed(jax.jit(network.init)(jax.random.key(1), Z, GAMMA, TEXT)["params"])}


def lengths(rows):
    return np.linalg.norm(np.asarray(rows, np.float64), axis=1)


def test_captions_have_length_one_and_images_that_of_the_scale(network, variables):
    images = network.apply(variables, Z, GAMMA, method="image")
    texts = network.apply(variables, TEXT, method="text")
    scale = np.exp(float(variables["params"]["log_scale"]))
    np.testing.assert_allclose(lengths(images), scale, rtol=1e-5)
    np.testing.assert_allclose(lengths(texts), 1, rtol=1e-5)
    np.testing.assert_allclose(
        network.apply(variables, Z, GAMMA, TEXT), np.asarray(images) @ np.asarray(texts).T, atol=1e-4
    )


def test_the_scale_is_at_most_a_hundred(network, variables):
    large = {"params": {**variables["params"], "log_scale": jnp.float32(9)}}
    np.testing.assert_allclose(lengths(network.apply(large, Z, GAMMA, method="image")), LARGEST_SCALE, rtol=1e-5)


def test_equal_captions_are_equal_and_padding_is_nothing(network, variables):
    """The place of the tokens counts, that of nothing does not."""
    texts = network.apply(variables, TEXT, method="text")
    np.testing.assert_array_equal(texts[0], texts[2])
    assert np.abs(texts[0] - texts[1]).max() > 0.01
    padded = {"params": jax.tree.map(lambda leaf: leaf, variables["params"])}
    encoder = dict(padded["params"]["text_encoder"])
    encoder["place"] = jnp.concatenate([encoder["place"], 9 * jnp.ones((2, 8))])
    padded["params"] = {**padded["params"], "text_encoder": encoder}
    longer = network.apply(padded, jnp.pad(TEXT, ((0, 0), (0, 2))), method="text")
    np.testing.assert_allclose(longer, texts, atol=1e-6)


def test_it_begins_with_images_that_differ(network):
    """Unlike a classifier, whose logits begin as zeros, of which there is no direction."""
    images = network.apply(network.init(jax.random.key(1), Z, GAMMA, TEXT), Z, GAMMA, method="image")
    np.testing.assert_allclose(lengths(images), 1 / 0.07, rtol=1e-5)
    assert np.abs(images[0] - images[1]).max() > 0.01


def test_dropout_is_of_images_in_training(network, variables):
    train = lambda key: network.apply(variables, Z, GAMMA, True, method="image", rngs={"dropout": jax.random.key(key)})  # noqa: E731
    assert np.abs(train(0) - train(1)).max() > 0.01


def test_states_of_a_frozen_encoder(network):
    frozen = TwoTowers(vocabulary=None, **SMALL)
    states = jax.random.normal(jax.random.key(2), (3, 3, 5))
    logits, _ = frozen.init_with_output(jax.random.key(1), Z, GAMMA, states)
    assert logits.shape == (3, 3)
    assert np.isfinite(logits).all()


def test_the_gradient_of_no_direction_is_finite():
    gradient = jax.grad(lambda x: unit(x).sum())(jnp.zeros((2, 3)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("changes", "says"), [({"shape": (2,)}, "shape"), ({"groups": 3}, "groups")])
def test_what_does_not_fit_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        towers(vocabulary=12, **SMALL, **changes)
