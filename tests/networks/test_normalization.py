"""Normalisation, swish and dropout against Flax's own and float64, and what is kept of them for the backward pass."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import EPS, f64

from vdm.networks.normalization import Norm, coefficients, dropped_chances, kept, num_groups

SHAPE = (2, 3, 5, 12)


def inputs(seed: int = 0, offset: float = 0.5):
    """(x, shift, scale, bias) of `SHAPE`."""
    keys = jax.random.split(jax.random.key(seed), 4)
    x = offset + 2 * jax.random.normal(keys[0], SHAPE)
    shift, scale, bias = (jax.random.normal(k, s) for k, s in zip(keys[1:], [(2, 12), (12,), (12,)], strict=True))
    return x, shift, 1 + 0.3 * scale, bias


def ours(x, shift, scale, bias):
    return Norm(3).apply({"params": {"scale": scale, "bias": bias}}, x, shift)


def flaxs(x, shift, scale, bias):
    norm = nn.GroupNorm(3, epsilon=1e-6, use_fast_variance=False)
    return nn.swish(norm.apply({"params": {"scale": scale, "bias": bias}}, x + shift[:, None, None, :]))


def test_value_and_gradients_are_those_of_flax():
    (y, pull_back), (expected, pull_back_flaxs) = (jax.vjp(f, *inputs()) for f in (ours, flaxs))
    np.testing.assert_allclose(y, expected, rtol=0, atol=20 * EPS * np.max(np.abs(expected)))
    by_y = jax.random.normal(jax.random.key(9), SHAPE)
    for mine, theirs in zip(pull_back(by_y), pull_back_flaxs(by_y), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=100 * EPS * np.max(np.abs(theirs)))


def test_forward_and_second_derivatives():
    """What the ODE's divergence and an energy's training take."""
    x, *rest = inputs()
    direction = jax.random.normal(jax.random.key(9), SHAPE)
    along, along_flaxs = (jax.jvp(lambda x, f=f: f(x, *rest), (x,), (direction,))[1] for f in (ours, flaxs))
    np.testing.assert_allclose(along, along_flaxs, rtol=0, atol=100 * EPS * np.max(np.abs(along_flaxs)))

    def curvature(f):
        return jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(f(x, *rest) ** 2))(x) * direction))(x)

    expected = curvature(flaxs)
    np.testing.assert_allclose(curvature(ours), expected, rtol=0, atol=1000 * EPS * np.max(np.abs(expected)))


def test_without_swish_and_shift_it_is_the_plain_normalisation():
    x, _, scale, bias = inputs()
    norm = Norm(3, swish=False)
    grouped = f64(x).reshape(2, 15, 3, 4)
    expected = (grouped - grouped.mean((1, 3), keepdims=True)) / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-6)
    expected = expected.reshape(SHAPE) * f64(scale) + f64(bias)
    y = norm.apply({"params": {"scale": scale, "bias": bias}}, x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=20 * EPS * np.max(np.abs(expected)))


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_variance_far_from_zero(offset):
    """E[x²] − E[x]² would be all rounding at 10⁴; and a shift that takes x back to 0 is no better for it."""
    x, _, scale, bias = inputs(offset=offset)
    shift = jnp.full((2, 12), -offset)
    slope, _ = coefficients(x, shift, scale, bias, 3)
    grouped = (f64(x) + f64(shift)[:, None, None, :]).reshape(2, 15, 3, 4)
    expected = np.repeat(1 / np.sqrt(grouped.var((1, 3)) + 1e-6), 4, axis=1) * f64(scale)
    # The mean is off by some roundings of `offset`, which count squared in the variance and once in the group's mean.
    np.testing.assert_allclose(slope, expected, rtol=20 * EPS + 20 * EPS * offset)


# 32 groups where they have four channels or more, as the 128 of the paper; fewer else, and always a divisor.
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (9, 1), (8, 2), (32, 8), (48, 4), (128, 32), (256, 32)])
def test_number_of_groups(channels, groups):
    assert num_groups(channels) == groups


def test_the_backward_pass_keeps_one_array_of_floats():
    x, shift, scale, bias = inputs()

    @jax.jit
    def apply(x):
        params = {"params": {"scale": scale, "bias": bias}}
        return Norm(3, dropout=0.1).apply(params, x, shift, True, rngs={"dropout": jax.random.key(0)})

    _, pull_back = jax.vjp(apply, x)
    large = {x.unsafe_buffer_pointer(): x.dtype for x in jax.tree.leaves(pull_back) if x.shape == SHAPE}
    assert sorted(map(str, large.values())) == ["bool", "float32"]


def test_other_devices_compute_the_same(monkeypatch):
    """Value and gradients, of which the backward pass there keeps more."""
    here, pull_back = jax.vjp(ours, *inputs())
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    there, pull_back_there = jax.vjp(ours, *inputs())
    np.testing.assert_array_equal(there, here)
    by_y = jax.random.normal(jax.random.key(9), SHAPE)
    for mine, theirs in zip(pull_back(by_y), pull_back_there(by_y), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=20 * EPS * np.max(np.abs(theirs)))


def test_dropout_keeps_the_mean_and_drops_its_share():
    norm, x = Norm(swish=True, dropout=0.1), jax.random.normal(jax.random.key(1), (8, 16, 16, 30))
    variables = norm.init(jax.random.key(0), x)
    plain = norm.apply(variables, x)
    dropped = norm.apply(variables, x, None, True, rngs={"dropout": jax.random.key(2)})
    gone = np.asarray(dropped == 0)
    share = dropped_chances(0.1) / 256
    assert abs(gone.mean() - share) < 4 * np.sqrt(share * (1 - share) / gone.size)
    np.testing.assert_allclose(dropped[~gone], plain[~gone] / (1 - share), rtol=4 * EPS)
    # Without the stream's key, or out of training, nothing is dropped.
    np.testing.assert_array_equal(norm.apply(variables, x, None, False, rngs={"dropout": jax.random.key(2)}), plain)


def test_values_that_share_a_random_number_are_dropped_independently():
    mask = f64(kept(jax.random.key(3), (200, 16, 16, 8), 64)).reshape(-1, 8) - 0.75
    correlation = mask.T @ mask / len(mask) / (0.75 * 0.25)
    np.testing.assert_allclose(correlation, np.eye(8), atol=5 / np.sqrt(len(mask)))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_masks_of_any_number_of_channels(channels):
    mask = kept(jax.random.key(0), (2, 3, 3, channels), 128)
    assert mask.shape == (2, 3, 3, channels)
    assert 0 < np.mean(mask) < 1


@pytest.mark.parametrize(
    ("rate", "chances"), [(0.0, 0), (1e-9, 1), (0.1, 26), (0.25, 64), (0.5, 128), (0.9999, 255), (1.0, 256)]
)
def test_rates_are_rounded_but_never_to_none_or_all(rate, chances):
    assert dropped_chances(rate) == chances


def test_everything_dropped():
    norm, x = Norm(dropout=1.0), jnp.ones((1, 2, 2, 4))
    variables = norm.init(jax.random.key(0), x)
    assert not np.any(norm.apply(variables, x, None, True, rngs={"dropout": jax.random.key(2)}))
