"""Importance-weighted bounds from log weights: closed forms, no overflow, and each draw's own keys."""

import jax
import jax.numpy as jnp
import numpy as np

from vdm.keys import folded, image_keys
from vdm.predecessors import importance

KEYS = image_keys(jax.random.key(0), 3)


def test_of_equal_weights_it_is_their_log_whatever_their_number():
    for draws in (1, 2, 7):
        bound = importance.bound(jnp.full((draws, 3), -5.0))
        np.testing.assert_allclose(bound, 5.0, rtol=1e-6)


def test_it_is_minus_the_log_of_the_mean_weight():
    log_weights = np.random.default_rng(0).normal(size=(20, 3))
    wanted = -np.log(np.exp(log_weights).mean(axis=0))
    np.testing.assert_allclose(importance.bound(jnp.asarray(log_weights, jnp.float32)), wanted, rtol=1e-5)


def test_weights_too_small_or_large_for_float32_are_no_matter():
    """e^{±10⁴} is none; the largest weight decides, less log K."""
    for size in (-1e4, 1e4):
        log_weights = jnp.asarray([[size], [size - 200], [size - 300], [size - 400]], jnp.float32)
        np.testing.assert_allclose(importance.bound(log_weights), -size + np.log(4), rtol=1e-6)


def test_each_draw_of_an_image_has_a_key_of_its_own():
    """Draw k is the same with fewer draws, and with other images beside it."""
    one = jax.vmap(jax.random.normal)
    of = jax.jit(lambda keys, draws: importance.log_weights(one, keys, draws), static_argnums=1)
    five = of(KEYS, 5)
    assert len(np.unique(five)) == five.size
    np.testing.assert_array_equal(of(KEYS, 2), five[:2])
    np.testing.assert_array_equal(of(KEYS[1:], 5), five[:, 1:])
    np.testing.assert_array_equal(five[3], one(folded(KEYS, 3)))
