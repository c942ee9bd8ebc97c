"""The classifier's network: shapes and types at any size, what it sees, and where it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm.networks.classifier import num_resolutions, residual

KEY = jax.random.key(0)
SHAPE = (2, 6, 5, 3)
NETWORK = residual(classes=4, channels=8, depth=1, gamma_min=-7.0, gamma_max=4.0, dropout=0.5)


@pytest.fixture(scope="module")
def params():
    with jax.numpy_dtype_promotion("standard"):
        return tiny.perturbed(jax.jit(NETWORK.init)(KEY, jnp.zeros(SHAPE), jnp.zeros(2)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 1), (8, 8, 1), (28, 28, 1), (32, 32, 3), (17, 64, 3)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_of_images_of_any_size(shape, dtype):
    network = residual(classes=7, channels=8, depth=1, dtype=dtype)
    logits, variables = jax.eval_shape(lambda: network.init_with_output(KEY, jnp.zeros((2, *shape)), jnp.float32(0)))
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    blocks = {name for name in variables["params"] if name.startswith("block")}
    assert blocks == {f"block_{k}_0" for k in range(num_resolutions(min(shape[:2])))}


def test_what_logits_depend_on(params):
    """The image, each its own; the noise level; and dropout, in training alone."""
    z, gamma = jax.random.normal(KEY, SHAPE), jnp.asarray([-2.0, 1.0])
    apply = jax.jit(NETWORK.apply, static_argnames="train")
    logits = apply(params, z, gamma)
    np.testing.assert_array_equal(logits, apply(params, z, gamma))
    others = apply(params, z.at[1].multiply(2), gamma), apply(params, z, gamma + jnp.asarray([0.0, 1.0]))
    for other in others:
        np.testing.assert_allclose(other[0], logits[0], rtol=1e-5)
        assert np.abs(other[1] - logits[1]).max() > 1e-3
    dropped = apply(params, z, gamma, train=True, rngs={"dropout": KEY})
    assert np.abs(dropped - logits).max() > 1e-3


def test_all_classes_are_equally_likely_at_first():
    network = residual(classes=4, channels=4, depth=1)
    logits, _ = jax.jit(network.init_with_output)(KEY, jnp.ones((2, 4, 4, 1)), jnp.zeros(2))
    np.testing.assert_array_equal(logits, 0)


@pytest.mark.parametrize("groups", [0, 3])
def test_groups_that_do_not_divide_the_channels_are_refused(groups):
    with pytest.raises(ValueError, match=f"^groups={groups}: must be a divisor of channels=8, or None"):
        residual(classes=4, channels=8, groups=groups)
