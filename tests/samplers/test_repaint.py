"""RePaint: the known part to the bit, the unknown one exact where it is independent, nearer with rounds where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import alpha, assert_mean, sigma

from vdm import gaussian, oracles, posteriors, predictions, samplers

KNOWN = jnp.array([True, False, True, False])
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
MEAN, VAR = np.array([0.2, -0.4, 0.1, 0.5]), np.array([0.3, 0.2, 0.5, 0.05])
INDEPENDENT = oracles.gaussian(MEAN, VAR).denoise
GAMMAS = jnp.linspace(6.0, -6.0, 61)


def draw(sampler, denoise=INDEPENDENT, gammas=GAMMAS, num=3, first=0, seed=0):
    run = jax.jit(lambda key: samplers.sample(key, denoise, sampler, gammas, (num, 4), first))
    return run(jax.random.key(seed))


@pytest.mark.parametrize("inner", [samplers.ancestral(), samplers.ddim(0.0), samplers.dpm_solver_pp(2)])
@pytest.mark.parametrize("resampling", [1, 3])
def test_known_values_are_kept_to_the_bit(inner, resampling):
    z_0 = draw(samplers.repaint(inner, X, KNOWN, resampling, GAMMAS[-1]))
    kept = gaussian.alpha(GAMMAS[-1]) * X
    np.testing.assert_array_equal(z_0[:, KNOWN], kept[:, KNOWN])
    assert np.all(np.isfinite(z_0))
    assert np.abs(z_0 - kept)[:, ~KNOWN].min() > 1e-3


def test_known_values_have_the_noise_of_their_level_before():
    """z_s of the known is α_s x + σ_s ε, ε afresh at every step."""
    num = 4000
    sampler = samplers.repaint(samplers.ancestral(), jnp.repeat(X[:1], num, axis=0), KNOWN, gamma_0=GAMMAS[-1])
    z_1 = jnp.zeros((num, 4))
    _, kept, _ = jax.jit(
        lambda key: samplers.run(key, INDEPENDENT, sampler, GAMMAS[-3:], z_1, steps=(0, 1), keep=lambda step: step.z)
    )(jax.random.key(0))
    noise = (np.asarray(kept[0]) - alpha(GAMMAS[-2]) * np.asarray(X[:1])) / sigma(GAMMAS[-2])
    assert_mean(noise[:, KNOWN], 0.0)
    assert_mean(noise[:, KNOWN] ** 2, 1.0)


def test_unknown_values_that_are_independent_have_their_own_distribution():
    """The ancestral sampler's error at 160 steps is below the standard errors: 0.01, and 3 % of the variance."""
    num, gammas = 2000, jnp.linspace(6.0, -6.0, 161)
    sampler = samplers.repaint(samplers.ancestral(), jnp.repeat(X[:1], num, axis=0), KNOWN, 2, gammas[-1])
    z = np.asarray(draw(sampler, gammas=gammas, num=num))[:, ~KNOWN]
    mean, var = (part[~np.asarray(KNOWN)] for part in (alpha(-6.0) * MEAN, alpha(-6.0) ** 2 * VAR + sigma(-6.0) ** 2))
    assert_mean(z, mean)
    assert_mean((z - mean) ** 2 / var, 1.0)


def test_rounds_bring_dependent_values_nearer_to_the_posterior():
    """By the mean of what is unknown, of neighbours that are nearly the same."""
    num = 2000
    cov = 0.5 * np.exp(-0.5 * ((np.arange(4)[:, None] - np.arange(4)) / 2) ** 2) + 0.01 * np.eye(4)
    data, x = posteriors.gaussian(np.zeros(4), cov), jnp.full((num, 4), 1.0)
    exact = posteriors.given(data, np.diag(np.asarray(KNOWN, float)), np.ones(4) * np.asarray(KNOWN), 0.0).mean
    denoise, gammas = posteriors.oracle(data).denoise, GAMMAS[::2]
    errors = []
    for resampling in (1, 10):
        sampler = samplers.repaint(samplers.ancestral(), x, KNOWN, resampling, gammas[-1])
        z = np.asarray(draw(sampler, denoise, gammas, num)) / alpha(-6.0)
        errors.append(np.abs(z.mean(axis=0) - exact)[~np.asarray(KNOWN)].max())
    # Standard errors are about 0.01.
    assert errors[0] > errors[1] + 0.05


def test_an_image_does_not_depend_on_the_batch():
    together = draw(samplers.repaint(samplers.ancestral(), X, KNOWN, 2))
    alone = draw(samplers.repaint(samplers.ancestral(), X[2:], KNOWN, 2), num=1, first=2)
    np.testing.assert_allclose(alone[0], together[2], rtol=1e-5, atol=1e-6)
    assert np.abs(together[0] - together[1])[KNOWN].min() > 0  # Without gamma_0 noise is left.


def test_it_starts_from_pure_noise_and_counts_its_calls():
    sampler = samplers.repaint(samplers.heun(), X, KNOWN, 3, GAMMAS[-1])
    assert sampler.calls == 6
    sampler = samplers.repaint(samplers.ddim(), X, KNOWN, 3, GAMMAS[-1])

    def of_x(z, gamma):
        at = gaussian.expand(jnp.asarray(gamma), z)
        x_hat = 0.1 * z
        return predictions.Prediction(x_hat, (z - gaussian.alpha(at) * x_hat) / gaussian.sigma(at))

    z_0 = draw(sampler, of_x, samplers.grids.zero_terminal_snr(GAMMAS))
    assert np.all(np.isfinite(z_0))


@pytest.mark.usefixtures("unannotated")
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="resampling=0: must be a whole number, 1 or more"):
        samplers.repaint(samplers.ddim(), X, KNOWN, 0)
    with pytest.raises(ValueError, match=r"known has shape \(2,\): must be \(4,\)"):
        samplers.repaint(samplers.ddim(), X, KNOWN[:2])
    with pytest.raises(ValueError, match="sampler=ddim: must be a Sampler"):
        samplers.repaint(samplers.ddim, X, KNOWN)
