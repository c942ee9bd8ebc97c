"""Clipping x̂: the range, the identity z = α x̂ + σ ε̂, and nothing where nothing is out of range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import gaussian, predictions
from vdm.samplers import clipping

Z = 2 * jax.random.normal(jax.random.key(0), (6, 40))
GAMMA = jnp.linspace(-13.0, 8.0, 6)


def denoise(z, gamma):
    """x̂ from −3 to 3, out of range in most places."""
    x_hat = 3 * jnp.sin(5 * z)
    gamma = gaussian.expand(gamma, z)
    return (z - gaussian.alpha(gamma) * x_hat) / gaussian.sigma(gamma)


@pytest.mark.parametrize("clip", [clipping.static, clipping.dynamic])
def test_x_hat_is_in_range_and_consistent_with_eps_hat(clip):
    raw, _ = predictions.pair(denoise)(Z, GAMMA)
    x_hat, eps_hat = clip(denoise).pair(Z, GAMMA)
    assert np.abs(raw).max() > 2
    assert np.abs(x_hat).max() <= 1
    gamma = gaussian.expand(GAMMA, Z)
    # Each term is at most about 10 and rounded a few times; at γ = −13 ε̂ is up to 2000 and σ ε̂ rounds as z does.
    np.testing.assert_allclose(gaussian.alpha(gamma) * x_hat + gaussian.sigma(gamma) * eps_hat, Z, atol=1e-5)
    np.testing.assert_array_equal(clip(denoise)(Z, GAMMA), eps_hat)


def test_static_is_the_clip_and_dynamic_the_scaled_percentile():
    raw, _ = predictions.pair(denoise)(Z, GAMMA)
    np.testing.assert_array_equal(clipping.static(denoise).pair(Z, GAMMA)[0], np.clip(raw, -1, 1))
    s = np.maximum(np.percentile(np.abs(np.asarray(raw, np.float64)), 90, axis=1, keepdims=True), 1)
    expected = np.clip(raw, -s, s) / s
    np.testing.assert_allclose(clipping.dynamic(denoise, 90.0).pair(Z, GAMMA)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("clip", [clipping.static, clipping.dynamic])
def test_nothing_changes_where_x_hat_is_in_range(clip):
    def inside(z, gamma):
        gamma = gaussian.expand(gamma, z)
        return (z - gaussian.alpha(gamma) * 0.9 * jnp.sin(z)) / gaussian.sigma(gamma)

    np.testing.assert_array_equal(clip(inside)(Z, GAMMA), inside(Z, GAMMA))


@pytest.mark.parametrize("clip", [clipping.static, clipping.dynamic])
def test_at_zero_snr_x_hat_is_clipped_and_eps_hat_is_z(clip):
    """There α = 0, and x̂ says nothing of ε̂."""
    v = predictions.denoiser(lambda z, gamma: 3 * jnp.sin(5 * z), "v")
    x_hat, eps_hat = clip(v).pair(Z, jnp.inf)
    assert 0.5 < np.abs(x_hat).max() <= 1
    np.testing.assert_array_equal(eps_hat, Z)


@pytest.mark.parametrize("percentile", [0.0, 101.0, float("nan")])
def test_bad_percentiles_are_refused(percentile):
    with pytest.raises(ValueError, match=r"percentile=.*: must be above 0 and at most 100"):
        clipping.dynamic(denoise, percentile)
