"""The perceptron: examples apart, all that it is given reaches the output, and what it starts from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm import model as model_lib
from vdm.config import Config, DataConfig, NetworkConfig, validate
from vdm.errors import InputError
from vdm.networks.mlp import mlp

GAMMA = jnp.array([-6.0, -3.0, 1.0, 2.0])
CONDITION = {"label": jnp.array([0, 1, 2, 1]), "dropped": jnp.array([False, False, True, False])}
Z = jax.random.normal(jax.random.key(1), (4, 2))
NETWORK = mlp(channels=8, depth=2, gamma_min=-7.0, gamma_max=4.0, classes=3, levels=0)


@pytest.fixture(scope="module")
def apply():
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), Z, GAMMA, CONDITION)
    return jax.jit(functools.partial(NETWORK.apply, tiny.random_variables(shapes)))


def test_examples_are_separate(apply):
    order = np.array([2, 0, 3, 1])
    plain = apply(Z, GAMMA, CONDITION)
    assert plain.shape == Z.shape
    assert np.max(np.abs(plain - Z)) > 0.01
    shuffled = apply(Z[order], GAMMA[order], {name: value[order] for name, value in CONDITION.items()})
    np.testing.assert_allclose(plain[order], shuffled, rtol=1e-5, atol=1e-5)


def test_every_value_gamma_and_label_reach_the_output_but_no_label_that_is_dropped(apply):
    z = jnp.broadcast_to(Z[:1], Z.shape)
    plain = apply(z, jnp.zeros(4), CONDITION)

    def moved(z=z, gamma=jnp.zeros(4), **changes):  # noqa: B008
        return np.max(np.abs(apply(z, gamma, CONDITION | changes) - plain), axis=1)

    assert moved(gamma=jnp.ones(4)).min() > 1e-3
    for k in range(2):
        # Also the other value of the result.
        assert np.min(np.abs(apply(z.at[:, k].add(1.0), jnp.zeros(4), CONDITION) - plain)[:, 1 - k]) > 1e-3
    assert np.max(np.abs(plain[1] - plain[3])) < 1e-5
    np.testing.assert_array_equal(moved(label=jnp.array([2, 1, 0, 0])) > 1e-3, [True, False, False, True])
    np.testing.assert_array_equal(moved(dropped=jnp.array([True, False, True, False])) > 1e-3, [True] + 3 * [False])


def test_a_fresh_network_returns_z_or_zero():
    first, variables = NETWORK.init_with_output(jax.random.key(0), Z, GAMMA, CONDITION)
    np.testing.assert_array_equal(first, Z)
    without = mlp(channels=8, depth=2, residual=False, classes=3, levels=0)
    np.testing.assert_array_equal(without.apply(variables, Z, GAMMA, CONDITION), 0 * Z)


def test_training_reaches_every_parameter_and_dropout_has_a_stream_of_its_own():
    module = NETWORK.clone(dropout=0.5)
    shapes = jax.eval_shape(module.init, jax.random.key(0), Z, GAMMA, CONDITION)
    variables = tiny.random_variables(shapes)

    @jax.jit
    def gradient(key):
        def loss(v):
            return jnp.mean(jnp.square(module.apply(v, Z, GAMMA, CONDITION, True, rngs={"dropout": key})))

        return jax.grad(loss)(variables)

    plain, other = gradient(jax.random.key(0)), gradient(jax.random.key(1))
    assert min(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(plain)) > 1e-7
    differences = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), plain, other)
    assert max(jax.tree.leaves(differences)) > 1e-3


def test_in_bfloat16_it_is_the_same_to_its_digits(apply):
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), Z, GAMMA, CONDITION)
    low = NETWORK.clone(dtype=jnp.bfloat16).apply(tiny.random_variables(shapes), Z, GAMMA, CONDITION)
    assert low.dtype == jnp.float32
    apart = np.max(np.abs(low - apply(Z, GAMMA, CONDITION)))
    # A few roundings of 2⁻⁹ in values of about one: some, but not many.
    assert 0 < apart < 0.05


def of_data(**changes) -> Config:
    network = {"name": "mlp", "channels": 8, "depth": 1} | changes
    return Config(data=DataConfig(shape=(2,), levels=0), network=NetworkConfig(**network))


def test_a_model_of_vectors_and_one_of_images_by_it():
    for shape, levels in (((2,), 0), ((4, 4, 1), 17)):
        config = of_data()
        config.data = DataConfig(shape=shape, levels=levels)
        model = model_lib.from_config(config)
        batch = {"image": jnp.zeros((3, *shape), jnp.float32 if levels == 0 else jnp.uint8)}
        bound = jax.jit(model.bound)(model.init(jax.random.key(0)), jax.random.key(1), batch)
        assert bound.total.shape == (3,)
        assert np.isfinite(bound.total).all()


@pytest.mark.parametrize("name", ["unet", "adm", "dit"])
def test_networks_of_images_refuse_vectors(name):
    with pytest.raises(InputError, match=rf"config.network.name='{name}': shape=\(2,\): must be \(height, width"):
        validate(of_data(name=name))


def test_integers_are_images():
    config = of_data()
    config.data.levels = 17
    with pytest.raises(InputError, match=r"config.data.shape=\(2,\): must be \(height, width, channels\) of integers"):
        validate(config)
