"""Inversion: the exact map of Gaussian data, there and back. Interpolation: angles, norms, ends."""

from functools import partial

import affine
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import gaussian, parts, samplers

X = np.linspace(-1, 1, 12).reshape(6, 2).astype(np.float32)


def there_and_back(sampler, num_steps):
    """(error of z₁, error of z₀ after the way back), of the flow z ↦ mean + std z between γ = −6 and 3."""
    gammas = jnp.linspace(3.0, -6.0, num_steps + 1)
    invert = jax.jit(partial(samplers.invert, affine.denoise, sampler=sampler))
    z_1 = invert(jnp.asarray(X), gammas)
    back = samplers.sample_from(jax.random.key(0), affine.denoise, sampler, gammas, z_1)
    (mean_0, std_0), (mean_1, std_1) = (
        (oracle.alpha(gamma) * affine.MEAN, np.hypot(oracle.alpha(gamma) * affine.STD, oracle.sigma(gamma)))
        for gamma in (-6.0, 3.0)
    )
    exact = mean_1 + std_1 * (oracle.f64(X) - mean_0) / std_0
    return np.abs(z_1 - exact).max(), np.abs(back - X).max()


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2), ("dpm_solver_pp(2)", 2)])
def test_inversion_is_the_flow_and_is_undone_by_sampling(name, order):
    sampler = parts.make("sampler", name)
    few, many = np.array([there_and_back(sampler, num_steps) for num_steps in (32, 128)])
    assert np.all(many < 0.05)
    # A quarter of the step: at least 4^order, less a fifth; not better by chance.
    assert np.all(few > 0.8 * 4**order * many)


def test_inversion_is_ddim_upwards_by_hand():
    gammas = [-3.0, 0.5, 2.0]
    z = oracle.f64(X)
    for gamma_s, gamma_t in ((-3.0, 0.5), (0.5, 2.0)):
        # Coefficients over (1, z).
        x_hat, eps_hat = (offset + slope * z for offset, slope in affine.predict(np.array([0.0, 1.0]), gamma_s))
        z = oracle.alpha(gamma_t) * x_hat + oracle.sigma(gamma_t) * eps_hat
    result = samplers.invert(affine.denoise, jnp.asarray(X), jnp.asarray(gammas[::-1]))
    np.testing.assert_allclose(result, z, rtol=1e-5, atol=1e-5)


def test_inversion_goes_up_to_pure_noise():
    """At γ = ∞ z is ε̂."""
    z_1 = samplers.invert(affine.denoise, jnp.asarray(X), jnp.asarray([jnp.inf, 2.0]))
    np.testing.assert_allclose(z_1, affine.denoise(jnp.asarray(X), jnp.float32(2.0)), rtol=1e-6)


def angle(a, b):
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.arccos(np.sum(a * b, axis=1) / norms)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_slerp_keeps_the_norm_and_divides_the_angle(weight):
    a, b = jax.random.normal(jax.random.key(0), (2, 20, 5))
    b = b * jnp.linalg.norm(a, axis=1, keepdims=True) / jnp.linalg.norm(b, axis=1, keepdims=True)
    result = jax.jit(samplers.slerp)(a, b, jnp.float32(weight))
    a, b, result = (oracle.f64(each) for each in (a, b, result))
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), np.linalg.norm(a, axis=1), rtol=1e-5)
    if 0 < weight < 1:
        np.testing.assert_allclose(angle(a, result), weight * angle(a, b), rtol=1e-4)
        np.testing.assert_allclose(angle(result, b), (1 - weight) * angle(a, b), rtol=1e-4)
    else:
        np.testing.assert_allclose(result, b if weight else a, rtol=1e-5, atol=1e-6)


def test_slerp_has_a_weight_an_image_and_is_straight_between_parallel_ones():
    a = jax.random.normal(jax.random.key(0), (3, 2, 2))
    weights = jnp.asarray([0.0, 0.5, 1.0])
    np.testing.assert_allclose(
        samplers.slerp(a, 2 * a, weights), oracle.f64(a) * np.array([1, 1.5, 2])[:, None, None], rtol=1e-6
    )
    near = a + 1e-4 * jnp.roll(a, 1, axis=2)
    expected = a + gaussian.expand(weights, a) * (near - a)
    np.testing.assert_allclose(samplers.slerp(a, near, weights), expected, rtol=1e-5, atol=1e-6)
