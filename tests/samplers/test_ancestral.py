"""Ancestral sampling with the exact denoiser of Gaussian data, where every step's distribution is known."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import predictions, samplers, schedules

MEAN, STD, NUM = 0.3, 0.6, 50_000
GAMMA_0, GAMMA_1 = -6.0, 4.0
SCHEDULES = {
    "linear": partial(schedules.linear(GAMMA_0, GAMMA_1).gamma, {}),
    "cosine": partial(schedules.cosine(GAMMA_0, GAMMA_1).gamma, {}),
}


def denoise(z, gamma):
    return oracle.gaussian_eps(z, gamma, MEAN, STD)


def exact_moments(gammas) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of z at every point of the grid, in float64.

    z_s given z_t is Bayes' posterior at x̂ = E[x|z_t], which is linear in z_t: its value at 0, its slope, its variance.
    """
    mean, var = [0.0], [1.0]
    for gamma_t, gamma_s in itertools.pairwise(gammas):

        def center(z, gamma_s=gamma_s, gamma_t=gamma_t):
            gain = oracle.alpha(gamma_t) * STD**2 / (oracle.alpha(gamma_t) ** 2 * STD**2 + oracle.sigma(gamma_t) ** 2)
            x_hat = MEAN + gain * (z - oracle.alpha(gamma_t) * MEAN)
            return oracle.posterior(z, x_hat, gamma_s, gamma_t)

        offset, noise = center(0.0)
        slope = center(1.0)[0] - offset
        mean.append(offset + slope * mean[-1])
        var.append(slope**2 * var[-1] + noise)
    return np.array(mean), np.array(var)


@pytest.mark.parametrize("name", SCHEDULES)
def test_moments_after_every_step(name):
    gammas = samplers.grid(SCHEDULES[name], 12)
    means, variances = exact_moments(oracle.f64(gammas))
    sampler = samplers.ancestral()
    step = jax.jit(partial(sampler.step, denoise=predictions.both(denoise)))
    keys, z = samplers.initial_latents(jax.random.key(0), (NUM, 1))
    memory = sampler.init(z)
    for n in range(12):
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, n + 1)
        z, x_hat, memory = step(step_keys, z=z, memory=memory, gamma_t=gammas[n], gamma_s=gammas[n + 1])
        assert x_hat.shape == z.shape == (NUM, 1)
        oracle.assert_mean(z[:, 0], means[n + 1])
        oracle.assert_mean((z[:, 0] - means[n + 1]) ** 2, variances[n + 1])


def test_x_hat_is_the_mean_of_the_data_given_z():
    gammas = samplers.grid(SCHEDULES["linear"], 4)
    sampler = samplers.ancestral()
    keys, z = samplers.initial_latents(jax.random.key(0), (100, 1))
    for gamma_t, gamma_s in ((gammas[0], gammas[1]), (gammas[3], gammas[4])):
        x_hat = sampler.step(keys, predictions.both(denoise), z, (), gamma_t, gamma_s).x_hat
        var_x = STD**2 * oracle.sigma(gamma_t) ** 2 / (oracle.alpha(gamma_t) ** 2 * STD**2 + oracle.sigma(gamma_t) ** 2)
        # Bayes: precision-weighted mean of N(MEAN, STD²) and the likelihood of z.
        expected = var_x * (MEAN / STD**2 + oracle.alpha(gamma_t) * oracle.f64(z) / oracle.sigma(gamma_t) ** 2)
        # (z − σ ε̂)/α: α₁ = 0.13 magnifies float32 roundings of z eight times.
        np.testing.assert_allclose(x_hat, expected, rtol=1e-5, atol=1e-5)


def test_whole_loop_has_the_exact_marginal():
    """`sample` over 60 steps against the recursion, and the recursion against q(z₀) as the number of steps grows."""
    gammas = samplers.grid(SCHEDULES["linear"], 60)
    z_0 = jax.jit(partial(samplers.sample, denoise=denoise, sampler=samplers.ancestral(), shape=(NUM, 1)))(
        jax.random.key(1), gammas=gammas
    )
    means, variances = exact_moments(oracle.f64(gammas))
    oracle.assert_mean(z_0[:, 0], means[-1])
    oracle.assert_mean((z_0[:, 0] - means[-1]) ** 2, variances[-1])

    errors = []
    for num_steps in (60, 600, 6000):
        means, variances = exact_moments(np.linspace(GAMMA_1, GAMMA_0, num_steps + 1))
        exact = oracle.alpha(GAMMA_0) ** 2 * STD**2 + oracle.sigma(GAMMA_0) ** 2
        errors.append(abs(variances[-1] - exact))
    # First order in the step, down to what starting from N(0, 1) instead of q(z₁) leaves.
    assert errors[0] > 5 * errors[1]
    assert errors[2] < 2e-3


def test_noise_has_the_posteriors_variance_and_is_fresh():
    """With x̂ = 0 from z = 0 a step is noise alone: of variance σ_s² c, independent between images, pixels and steps."""
    sampler = samplers.ancestral()
    keys, _ = samplers.initial_latents(jax.random.key(0), (NUM, 2))
    zeros = jnp.zeros((NUM, 2))
    gamma_t, gamma_s = jnp.float32(1.0), jnp.float32(-0.5)
    first, second = (
        sampler.step(
            jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, n),
            lambda z, g: (0 * z, 0 * z),
            zeros,
            (),
            gamma_t,
            gamma_s,
        ).z
        for n in (1, 2)
    )
    _, var = oracle.posterior(0.0, 0.0, -0.5, 1.0)
    oracle.assert_mean(first, 0)
    oracle.assert_mean(first**2, var)
    for product in (first[:, 0] * first[:, 1], first[1:, 0] * first[:-1, 0], first[:, 0] * second[:, 0]):
        oracle.assert_mean(product, 0)


def test_a_step_of_no_length_changes_nothing():
    sampler = samplers.ancestral()
    keys, z = samplers.initial_latents(jax.random.key(0), (10, 2))
    gamma = jnp.float32(-2.0)
    np.testing.assert_array_equal(sampler.step(keys, predictions.both(denoise), z, (), gamma, gamma).z, z)
