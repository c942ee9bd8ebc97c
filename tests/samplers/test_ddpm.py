"""DDPM's two noises and its noiseless variant, on Gaussian data and against its relatives."""

import affine
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import predictions, samplers


def formula(variance):
    def step(z, predict, memory, gamma_t, gamma_s, noise):
        """Ho et al. Eq. 7, 11 and §3.2, with their ᾱ = α²."""
        bar_t, bar_s = oracle.alpha(gamma_t) ** 2, oracle.alpha(gamma_s) ** 2
        beta = 1 - bar_t / bar_s
        var = {"small": (1 - bar_s) / (1 - bar_t) * beta, "large": beta, "none": 0.0}[variance]
        _, eps_hat = predict(z, gamma_t)
        mean = (z - beta / np.sqrt(1 - bar_t) * eps_hat) / np.sqrt(1 - beta)
        return mean + np.sqrt(var) * noise, memory

    return step


@pytest.mark.parametrize("variance", ["small", "large", "none"])
def test_moments_after_every_step(variance):
    affine.check(samplers.ddpm(variance), formula(variance))


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_marginal_is_exact_in_the_limit(variance):
    affine.assert_converges(formula(variance))


def test_small_is_ancestral():
    keys, z = samplers.initial_latents(jax.random.key(0), (10, 2))
    args = keys, predictions.both(affine.denoise), z, (), jnp.float32(1.0), jnp.float32(-0.5)
    np.testing.assert_array_equal(samplers.ddpm("small").step(*args).z, samplers.ancestral().step(*args).z)


def test_large_is_sigma_hat_of_ddim():
    """Wang, §3.4: α_s x̂ + √(σ_s² − β̃) ε̂ + √β ε, also where σ_s² < β."""
    keys, z = samplers.initial_latents(jax.random.key(0), (10, 2))
    gamma_t, gamma_s = jnp.float32(2.0), jnp.float32(-3.0)
    bar_t, bar_s = oracle.alpha(gamma_t) ** 2, oracle.alpha(gamma_s) ** 2
    beta = 1 - bar_t / bar_s
    assert 1 - bar_s < beta
    mean, large = (
        samplers.ddpm(variance).step(keys, predictions.both(affine.denoise), z, (), gamma_t, gamma_s).z
        for variance in ("none", "large")
    )
    x_hat, eps_hat = (oracle.f64(value) for value in predictions.both(affine.denoise)(z, gamma_t))
    kept = np.sqrt(1 - bar_s - (1 - bar_s) / (1 - bar_t) * beta)
    np.testing.assert_allclose(mean, np.sqrt(bar_s) * x_hat + kept * eps_hat, rtol=1e-5, atol=1e-6)
    noise = samplers.loop.normal_per_image(keys, z.shape)
    np.testing.assert_allclose(large - mean, np.sqrt(beta) * noise, rtol=1e-5, atol=1e-6)


def test_another_variance_is_refused():
    with pytest.raises(ValueError, match="variance='medium': must be one of 'small', 'large', 'none'"):
        samplers.ddpm("medium")
