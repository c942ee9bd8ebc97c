"""The denoising network: its features against float64, its start, its symmetries, its size."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from oracle import EPS, f64

from vdm.networks import UNet, fourier_exponents
from vdm.networks.attention import SelfAttention, attend
from vdm.networks.embeddings import fourier_features, time_embedding


def unet(**kwargs) -> UNet:
    return UNet(**({"channels": 8, "depth": 1, "gamma_min": -7.0, "gamma_max": 4.0, "fourier": (3, 4)} | kwargs))


def variable_shapes(network: UNet, shape: tuple[int, ...], features: int | None = None):
    """The variables' shapes, for images of `shape` and a condition of `features`; nothing is computed."""
    condition = None if features is None else jnp.zeros((1, features))
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros(1), condition)


@pytest.fixture(scope="module")
def small():
    """(network, variables off their start, compiled application), for images of 5 by 3 with 2 channels."""
    network = unet(dropout=0.5)
    variables = tiny.random_variables(variable_shapes(network, (5, 3, 2)))
    return network, variables, jax.jit(lambda z, gamma: network.apply(variables, z, gamma))


@pytest.mark.parametrize(("levels", "exponents"), [(256, (7, 8)), (17, (3, 4)), (2, (0, 1)), (16, (3, 4))])
def test_fourier_exponents(levels, exponents):
    assert fourier_exponents(levels) == exponents


@pytest.mark.parametrize("levels", [2, 16, 17, 64, 256])
def test_fourier_features_have_periods_of_two_bins_and_one(levels):
    # sin(2ⁿπz) has period 2/2ⁿ in z, and a bin is 2/levels wide; the nearest power of two is within a factor √2.
    periods = 2.0 / 2.0 ** np.array(fourier_exponents(levels)) / (2 / levels)
    assert np.all(np.abs(np.log2(periods / [2, 1])) <= 0.5)


@pytest.mark.parametrize("exponents", [(7, 8), (3, 4), (0,), (1, 3, 5)])
def test_fourier_features(exponents):
    z = jax.random.normal(jax.random.key(0), (2, 5, 3, 2))
    features = fourier_features(z, exponents)
    angles = f64(z)[..., None] * np.pi * 2.0 ** np.array(exponents)
    # Channel by channel, and exponent by exponent in each; all sines, then all cosines.
    angles = angles.reshape(2, 5, 3, 2 * len(exponents))
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    assert features.dtype == jnp.float32
    # The float32 angle is off by a rounding of π and one of the product: 2·EPS/2 of its size, up to 2⁸·π·4.
    np.testing.assert_allclose(features, expected, rtol=0, atol=1.5 * EPS * np.max(np.abs(angles)) + EPS)


def test_fourier_features_of_bfloat16_input_are_taken_in_float32():
    z = jnp.asarray([[0.7109375, -1.2265625]], jnp.bfloat16)
    features = fourier_features(z, (8,))
    assert features.dtype == jnp.float32
    np.testing.assert_array_equal(features, fourier_features(z.astype(jnp.float32), (8,)))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 33])
def test_time_embedding(size):
    time = jnp.linspace(-0.2, 1.2, 15)
    half = size // 2
    frequencies = 10_000.0 ** -(np.arange(half) / max(half - 1, 1))
    angles = 1000 * f64(time)[:, None] * frequencies
    expected = np.concatenate([np.sin(angles), np.cos(angles), np.zeros((15, size % 2))], axis=1)
    embedding = time_embedding(time, size)
    assert embedding.shape == (15, size)
    # Angles up to 1200, each rounded three times (1000·t, the frequency, their product).
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=2 * EPS * 1200)


@pytest.mark.parametrize(
    ("shape", "attention"), [((8, 8, 1), "middle"), ((5, 3, 2), "everywhere"), ((1, 1, 4), "middle")]
)
def test_any_image_shape(shape, attention):
    network = unet(attention=attention, heads=2)
    z = jax.random.normal(jax.random.key(1), (2, *shape))
    variables = tiny.random_variables(variable_shapes(network, shape))
    eps_hat = jax.jit(network.apply)(variables, z, jnp.array([-3.0, 1.0]))
    assert eps_hat.shape == z.shape
    assert np.all(np.isfinite(eps_hat))
    assert np.max(np.abs(eps_hat - z)) > 0.01
    # Attention after each of the three blocks beside the middle's two, or the middle one alone.
    attentions = [name for name in variables["params"] if name.endswith("attention")]
    assert len(attentions) == {"middle": 1, "everywhere": 4}[attention]


def test_a_fresh_network_returns_z():
    """The last layer starts at zero, and without it ε̂ = z; the others are drawn at random."""
    network = unet(channels=4)
    z = jax.random.normal(jax.random.key(1), (2, 4, 4, 1))

    @jax.jit
    def fresh(key):
        variables = network.init(key, z, jnp.zeros(2))
        return variables["params"], network.apply(variables, z, jnp.zeros(2))

    params, eps_hat = fresh(jax.random.key(0))
    np.testing.assert_array_equal(eps_hat, z)
    assert np.all(params["conv_in"]["kernel"] != 0)


@pytest.mark.parametrize("channels", [8, 12, 32])
def test_gamma_and_condition_reach_the_output_in_networks_of_all_sizes(channels):
    """A normalisation of single channels would take the conditioning out again."""
    network = unet(channels=channels)
    variables = tiny.random_variables(variable_shapes(network, (2, 2, 1), features=1))
    apply = jax.jit(lambda gamma, condition: network.apply(variables, jnp.ones((1, 2, 2, 1)), gamma, condition))
    plain = apply(jnp.array([-3.0]), jnp.zeros((1, 1)))
    assert np.max(np.abs(plain - apply(jnp.array([1.0]), jnp.zeros((1, 1))))) > 1e-2
    assert np.max(np.abs(plain - apply(jnp.array([-3.0]), jnp.ones((1, 1))))) > 1e-2


def test_gamma_reaches_the_output_normalised(small):
    _, variables, apply = small
    z = jax.random.normal(jax.random.key(1), (2, 5, 3, 2))
    low = apply(z, jnp.array([-3.0, -3.0]))
    assert np.max(np.abs(low - apply(z, jnp.array([1.0, 1.0])))) > 1e-3
    # Only (γ − γ_min)/(γ_max − γ_min) matters: another range and the γ at the same place in it.
    other = unet(gamma_min=0.0, gamma_max=22.0)
    np.testing.assert_allclose(low, other.apply(variables, z, jnp.array([8.0, 8.0])), rtol=1e-4, atol=1e-4)


def test_examples_are_separate(small):
    _, _, apply = small
    z = jax.random.normal(jax.random.key(1), (4, 5, 3, 2))
    gamma = jnp.array([-3.0, -1.0, 0.0, 2.0])
    order = np.array([2, 0, 3, 1])
    # 2⁴π·EPS·4 of rounding in the features, carried through a few layers.
    np.testing.assert_allclose(apply(z, gamma)[order], apply(z[order], gamma[order]), rtol=1e-4, atol=1e-5)


def test_dropout_only_in_training(small):
    network, variables, apply = small
    z = jax.random.normal(jax.random.key(1), (2, 5, 3, 2))
    gamma = jnp.zeros(2)
    train = jax.jit(lambda key: network.apply(variables, z, gamma, None, True, rngs={"dropout": key}))
    plain = apply(z, gamma)
    assert np.max(np.abs(train(jax.random.key(0)) - plain)) > 1e-3
    assert np.max(np.abs(train(jax.random.key(0)) - train(jax.random.key(1)))) > 1e-3


def test_condition_reaches_the_output():
    network = unet()
    variables = tiny.random_variables(variable_shapes(network, (4, 4, 1), features=2))
    apply = jax.jit(lambda condition: network.apply(variables, jnp.ones((2, 4, 4, 1)), jnp.zeros(2), condition))
    same = apply(jnp.array([[1.0, 0.0], [1.0, 0.0]]))
    different = apply(jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(same[0], same[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(same[0], different[0], rtol=1e-5, atol=1e-6)
    assert np.max(np.abs(different[0] - different[1])) > 1e-3


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_follows_a_permutation_of_pixels(heads):
    attention = SelfAttention(heads)
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 8))
    variables = tiny.perturbed(attention.init(jax.random.key(1), x), scale=0.5)
    apply = jax.jit(lambda x: attention.apply(variables, x))
    order = np.random.default_rng(0).permutation(12)

    def permute(x):
        return x.reshape(2, 12, 8)[:, order].reshape(x.shape)

    np.testing.assert_allclose(apply(permute(x)), permute(apply(x)), rtol=1e-4, atol=1e-5)
    # And it does look at other pixels.
    changed = x.at[:, 0, 0].add(3.0)
    assert np.max(np.abs(apply(changed) - apply(x))[:, 2, 3]) > 1e-4


def test_attention_of_heads_and_its_gradient():
    """Against float64, with scores in the hundreds: an exponential of them would not be finite."""
    rng = np.random.default_rng(3)
    query, key, value, out_bar = (rng.normal(size=(2, 5, 3, 4)).astype(np.float32) for _ in range(4))
    # Common to all keys: it raises each query's scores by 10² · 4/√4, and moves nothing.
    query, key = query + 10, key + 10
    out, pull_back = jax.vjp(attend, query, key, value)
    q, k, v, g = (np.moveaxis(x.astype(np.float64), 2, 1) for x in (query, key, value, out_bar))
    scores = q @ np.swapaxes(k, 2, 3) / np.sqrt(4)
    assert scores.min() > 100
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    by_weights = g @ np.swapaxes(v, 2, 3)
    by_scores = weights * (by_weights - np.sum(weights * by_weights, -1, keepdims=True)) / np.sqrt(4)
    expected = (weights @ v, by_scores @ k, np.swapaxes(by_scores, 2, 3) @ q, np.swapaxes(weights, 2, 3) @ g)
    # Scores of 200 have a float32 spacing of 1.5e-5, their exponentials that relative error.
    for ours, theirs in zip((out, *pull_back(jnp.asarray(out_bar))), expected, strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(np.moveaxis(np.asarray(ours), 2, 1) / scale, theirs / scale, rtol=0, atol=1e-4)


def test_attention_is_softmax_of_scaled_products():
    """One head in float64 by hand."""
    attention = SelfAttention(1)
    x = jax.random.normal(jax.random.key(0), (1, 2, 3, 4))
    variables = tiny.perturbed(attention.init(jax.random.key(1), x), scale=0.5)
    params = jax.tree.map(f64, variables["params"])
    flat = f64(x).reshape(6, 4)
    # One group of all four channels.
    h = (flat - flat.mean()) / np.sqrt(flat.var() + 1e-6) * params["norm"]["scale"] + params["norm"]["bias"]
    query, key, value = (h @ params[n]["kernel"] + params[n]["bias"] for n in ("query", "key", "value"))
    weights = np.exp(query @ key.T / np.sqrt(4))
    h = weights / weights.sum(axis=1, keepdims=True) @ value
    expected = flat + h @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(attention.apply(variables, x).reshape(6, 4), expected, rtol=1e-4, atol=1e-5)


def number_of_parameters(channels: int, depth: int, colours: int, frequencies: int) -> int:
    """By hand, from the description of the network: kernels + biases + norm scales."""
    c, cond = channels, 4 * channels

    def conv(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + outputs

    def dense(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    def block(inputs: int) -> int:
        shortcut = 0 if inputs == c else dense(inputs, c)
        return 2 * inputs + conv(inputs, c) + cond * c + 2 * c + conv(c, c) + shortcut

    embedding = dense(c, cond) + dense(cond, cond)
    attention = 2 * c + 4 * dense(c, c)
    ends = conv(colours * (1 + 2 * frequencies), c) + 2 * c + conv(c, colours)
    return embedding + ends + (depth + 2) * block(c) + attention + (depth + 1) * block(2 * c)


@pytest.mark.parametrize(
    ("channels", "depth", "shape"), [(128, 32, (32, 32, 3)), (64, 8, (32, 32, 3)), (8, 1, (4, 4, 1))]
)
def test_number_of_parameters(channels, depth, shape):
    """The first is the network of the paper for CIFAR-10; nothing is computed, only shapes."""
    network = unet(channels=channels, depth=depth, fourier=(7, 8))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variable_shapes(network, shape)))
    assert count == number_of_parameters(channels, depth, shape[-1], 2)
