"""DDIM at several η on Gaussian data, and its ends: η = 1 is ancestral sampling, η traced is η."""

from functools import partial

import affine
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import predictions, samplers


def formula(eta):
    def step(z, predict, memory, gamma_t, gamma_s, noise):
        """Song et al. Eq. 12 and 16, with their α = ᾱ."""
        bar_t, bar_s = oracle.alpha(gamma_t) ** 2, oracle.alpha(gamma_s) ** 2
        sigma = eta * np.sqrt((1 - bar_s) / (1 - bar_t)) * np.sqrt(1 - bar_t / bar_s)
        _, eps_hat = predict(z, gamma_t)
        x_hat = (z - np.sqrt(1 - bar_t) * eps_hat) / np.sqrt(bar_t)
        return np.sqrt(bar_s) * x_hat + np.sqrt(1 - bar_s - sigma**2) * eps_hat + sigma * noise, memory

    return step


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_moments_after_every_step(eta):
    affine.check(samplers.ddim(eta), formula(eta))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_marginal_is_exact_in_the_limit(eta):
    affine.assert_converges(formula(eta))


def test_eta_1_is_ancestral_with_the_same_noise():
    keys, z = samplers.initial_latents(jax.random.key(0), (10, 2))
    for gamma_t, gamma_s in ((12.0, -8.0), (1.0, 0.5), (-5.0, -5.1)):
        args = keys, predictions.both(affine.denoise), z, (), jnp.float32(gamma_t), jnp.float32(gamma_s)
        # ε̂ from z and back: a few roundings of z, 1/α times larger in x̂.
        tolerance = 1e-6 / oracle.alpha(gamma_t)
        np.testing.assert_allclose(samplers.ddim(1.0).step(*args).z, samplers.ancestral().step(*args).z, atol=tolerance)


def test_eta_may_be_traced():
    gammas, traces = jnp.asarray(affine.GAMMAS), []

    @jax.jit
    def run(eta):
        traces.append(None)
        return samplers.sample(jax.random.key(0), affine.denoise, samplers.ddim(eta), gammas, (4, 1))

    for eta in (0.0, 0.5):
        fixed = jax.jit(partial(samplers.sample, denoise=affine.denoise, sampler=samplers.ddim(eta), shape=(4, 1)))
        np.testing.assert_allclose(run(jnp.float32(eta)), fixed(jax.random.key(0), gammas=gammas), rtol=1e-5, atol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_eta_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match=r"eta=.*: must be a number from 0 to 1"):
        samplers.ddim(eta)
