"""Mixtures of any covariance: against diagonal ones, a direct formula, and Bayes' rule for p(x|y)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import EPS, alpha, sigma

from vdm import operators, oracles, posteriors

RNG = np.random.default_rng(0)
MEANS, STDS, WEIGHTS = RNG.normal(size=(2, 3)), np.array([[0.3, 0.7, 0.5], [0.2, 0.9, 0.4]]), np.array([0.3, 0.7])


def covariance(size: int, seed: int = 0) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(size, size))
    return root @ root.T / size + 0.05 * np.eye(size)


def test_diagonal_ones_are_those_of_oracles():
    data = posteriors.Mixture(WEIGHTS, MEANS, np.stack([np.diag(std**2) for std in STDS]))
    ours, other = posteriors.oracle(data), oracles.mixture(WEIGHTS, MEANS, STDS)
    z, gamma = jnp.asarray(RNG.normal(size=(7, 3)), jnp.float32), jnp.linspace(-6.0, 6.0, 7)
    # Numbers of size up to 10, a dozen roundings.
    for name in ("denoise", "log_marginal", "log_posterior"):
        found, wanted = (getattr(each, name)(z, gamma) for each in (ours, other))
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-4)
    np.testing.assert_allclose(ours.log_prob(z), other.log_prob(z), rtol=2e-5)
    np.testing.assert_allclose(ours.denoise_component(1)(z, gamma), other.denoise_component(1)(z, gamma), rtol=2e-5)


def test_the_denoiser_of_one_gaussian_is_linear():
    """E[ε|z] = σ (α² C + σ² I)⁻¹ (z − α m), in float64, for data of a shape."""
    cov, mean, gamma = covariance(4), RNG.normal(size=(2, 2)), 0.7
    z = RNG.normal(size=(5, 2, 2)).astype(np.float32)
    found = posteriors.oracle(posteriors.gaussian(mean, cov)).denoise(jnp.asarray(z), jnp.float32(gamma))
    of_z = alpha(gamma) ** 2 * cov + sigma(gamma) ** 2 * np.eye(4)
    wanted = sigma(gamma) * np.linalg.solve(of_z, (z - alpha(gamma) * mean).reshape(5, 4).T).T
    np.testing.assert_allclose(found.reshape(5, 4), wanted, atol=20 * EPS * np.abs(wanted).max())


@pytest.mark.parametrize("std", [0.3, np.array([0.1, 0.5])])
def test_given_is_bayes_rule(std):
    """log p(x) + log p(y|x) − log p(x|y) is log p(y), whatever x is: in float64."""
    data = posteriors.Mixture(WEIGHTS, MEANS, np.stack([covariance(3, seed) for seed in (1, 2)]))
    matrix, y = RNG.normal(size=(2, 3)), RNG.normal(size=2)
    left = posteriors.given(data, matrix, y, std)
    x = RNG.normal(size=(20, 3))
    with jax.enable_x64(True):
        of_x, of_both = (np.asarray(posteriors.oracle(each).log_prob(jnp.asarray(x))) for each in (data, left))
    noise = (y - x @ matrix.T) / std
    of_y = np.sum(-0.5 * noise**2 - np.log(std) * np.ones(2) - 0.5 * np.log(2 * np.pi), axis=1)
    evidence = of_x + of_y - of_both
    np.testing.assert_allclose(evidence, evidence[0], rtol=1e-9)


def test_without_noise_what_is_measured_is_certain_and_rows_of_zeros_tell_nothing():
    known = operators.mask(jnp.array([True, False, True]))
    y = np.array([0.5, 0.0, -1.0])
    left = posteriors.given(posteriors.gaussian(np.zeros(3), covariance(3)), posteriors.matrix(known), y, 0.0)
    np.testing.assert_allclose(left.means[0][[0, 2]], y[[0, 2]], atol=1e-12)
    np.testing.assert_allclose(left.covariances[0][[0, 2]], 0, atol=1e-12)
    assert left.covariances[0][1, 1] > 0


def test_samples_have_the_mean_and_the_covariance():
    data = posteriors.Mixture(WEIGHTS, MEANS, np.stack([covariance(3, seed) for seed in (1, 2)]))
    x = np.asarray(posteriors.oracle(data).sample(jax.random.key(0), 20_000), np.float64)
    centred = x - data.mean
    for values, wanted in ((x, data.mean), (np.einsum("ni,nj->nij", centred, centred), data.covariance)):
        stderr = values.std(axis=0) / np.sqrt(len(x))
        assert np.all(np.abs(values.mean(axis=0) - wanted) < 4 * stderr)
