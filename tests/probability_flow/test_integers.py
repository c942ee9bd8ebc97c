"""Bounds on −log P of integers by the flow's density, against mixtures, normal masses and quadrature in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
from scipy import stats
from scipy.special import log_expit, logsumexp

from vdm import likelihoods, oracles, probability_flow

RNG = np.random.default_rng(0)
# At this γ₁, α = 4.5e-5: the exact marginal and N(0, 1) differ by less than 1e-3 nats.
GAMMA_NOISE = 20.0
# Integers 0 … 5 with probabilities, two of them neighbours of little and of much; and pairs of such, independent.
LEVELS, PROBABILITIES = 6, np.array([0.05, 0.4, 0.1, 0.2, 0.24, 0.01])
CODES = (2 * np.arange(LEVELS) + 1) / LEVELS - 1
PAIRS = np.stack(np.meshgrid(np.arange(LEVELS), np.arange(LEVELS), indexing="ij"), axis=-1).reshape(-1, 2)
INTEGERS = oracles.mixture(PROBABILITIES, CODES[:, None], np.zeros(LEVELS))
INTEGER_PAIRS = oracles.mixture(PROBABILITIES[PAIRS].prod(axis=1), CODES[PAIRS], np.zeros(len(PAIRS)))
GAMMA_DATA = -4.0


def log_integers(z_0, gamma) -> np.ndarray:
    """log p(z₀) elementwise, where integers are the data."""
    density = stats.norm.pdf(oracle.f64(z_0)[..., None], oracle.alpha(gamma) * CODES, oracle.sigma(gamma))
    return np.log(density @ PROBABILITIES)


def test_terms_of_the_gaussian_bound():
    x, eps = RNG.choice(LEVELS, (20, 2), p=PROBABILITIES), RNG.normal(size=(20, 2)).astype(np.float32)
    function = jax.jit(partial(probability_flow.gaussian_bound, INTEGER_PAIRS.denoise, levels=LEVELS, tolerance=1e-5))
    ours = function(jnp.asarray(x), jnp.asarray(eps), gamma_0=GAMMA_DATA, gamma_1=GAMMA_NOISE)
    z_0 = oracle.alpha(GAMMA_DATA) * CODES[x] + oracle.sigma(GAMMA_DATA) * oracle.f64(eps)
    log_q = stats.norm.logpdf(z_0, oracle.alpha(GAMMA_DATA) * CODES[x], oracle.sigma(GAMMA_DATA))
    np.testing.assert_allclose(ours.dequantization, log_q.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        ours.reconstruction, -oracle.decoder_log_prob(x, z_0, GAMMA_DATA, LEVELS).sum(axis=1), rtol=0, atol=1e-4
    )
    np.testing.assert_allclose(ours.latent, -log_integers(z_0, GAMMA_DATA).sum(axis=1), rtol=0, atol=1e-3)
    np.testing.assert_array_equal(ours.total, ours.reconstruction + ours.latent + ours.dequantization)


def test_the_gaussian_bound_is_above_the_truth_by_its_known_gap():
    """Per integer, the mean over ε by quadrature. P(x) = ∫ p(x|z₀) p(z₀) dz₀ with the library's decoder."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = weights / weights.sum()
    x, eps = np.repeat(np.arange(LEVELS), 24)[:, None], np.tile(nodes, LEVELS)[:, None].astype(np.float32)
    function = jax.jit(partial(probability_flow.gaussian_bound, INTEGERS.denoise, levels=LEVELS, tolerance=1e-5))
    ours = function(jnp.asarray(x), jnp.asarray(eps), gamma_0=GAMMA_DATA, gamma_1=GAMMA_NOISE)
    bound = oracle.f64(ours.total).reshape(LEVELS, 24) @ weights

    alpha, sigma = oracle.alpha(GAMMA_DATA), oracle.sigma(GAMMA_DATA)
    z = np.linspace(-3, 3, 6001)[:, None]
    step, density = 6 / 6000, np.exp(log_integers(z, GAMMA_DATA))
    decoder = np.exp([oracle.decoder_log_prob(np.full_like(z, k), z, GAMMA_DATA, LEVELS) for k in range(LEVELS)])
    truth = -np.log(np.sum(decoder * density, axis=(1, 2)) * step)
    q = stats.norm.pdf(z, alpha * CODES, sigma).T[..., None]
    gap = np.sum(q * (np.log(q) - np.log(decoder * density)), axis=(1, 2)) * step - truth
    assert np.all(gap > 1e-3)
    np.testing.assert_allclose(bound, truth + gap, rtol=0, atol=2e-3)
    weighted = probability_flow.importance_weighted(ours.total.reshape(LEVELS, 24).T)
    assert weighted.shape == (LEVELS,)
    # With weights of quadrature instead of draws, all of the gap goes.
    by_hand = -logsumexp(-oracle.f64(ours.total).reshape(LEVELS, 24), axis=1, b=weights)
    np.testing.assert_allclose(by_hand, truth, rtol=0, atol=5e-3)
    np.testing.assert_allclose(
        weighted, -np.log(np.mean(np.exp(-oracle.f64(ours.total)).reshape(LEVELS, 24), axis=1)), rtol=1e-5, atol=1e-5
    )


def test_the_uniform_bound_is_above_the_mass_of_the_bin():
    """For a density of z₀/α₀ as wide as the bins, mean over u by quadrature; P(x) from the normal cdf."""
    weights, means, stds = np.array([0.4, 0.6]), np.array([[-0.5], [0.4]]), np.array([[0.15], [0.25]])
    line = oracles.mixture(weights, means, stds)
    nodes, node_weights = np.polynomial.legendre.leggauss(12)
    x, u = np.repeat(np.arange(LEVELS), 12)[:, None], np.tile((nodes + 1) / 2, LEVELS)[:, None].astype(np.float32)
    function = jax.jit(partial(probability_flow.uniform_bound, line.denoise, levels=LEVELS, tolerance=1e-5))
    ours = function(jnp.asarray(x), jnp.asarray(u), gamma_0=GAMMA_DATA, gamma_1=GAMMA_NOISE)
    bound = oracle.f64(ours.total).reshape(LEVELS, 12) @ node_weights / 2

    # z₀/α₀ = x + σ₀/α₀ ε.
    std = np.sqrt(stds[:, 0] ** 2 + np.exp(GAMMA_DATA))
    centre = 2 * (x + u) / LEVELS - 1
    density = stats.norm.pdf(centre, means[:, 0], std) @ weights
    expected = (-np.log(density * 2 / LEVELS)).reshape(LEVELS, 12) @ node_weights / 2
    mass = np.diff(stats.norm.cdf(np.linspace(-1, 1, LEVELS + 1)[:, None], means[:, 0], std) @ weights)
    np.testing.assert_allclose(bound, expected, rtol=0, atol=2e-3)
    assert np.all(expected > -np.log(mass) + 1e-3)
    assert np.all(expected < -np.log(mass) + 0.3)
    np.testing.assert_array_equal(ours.reconstruction, 0)
    # The model of this bound decodes z₀/α₀ by its bin.
    np.testing.assert_array_equal(likelihoods.decode(jnp.asarray(centre, jnp.float32), LEVELS), x)


def test_the_uniform_bound_counts_every_dimension():
    x, u = RNG.integers(LEVELS, size=(6, 2)), RNG.uniform(size=(6, 2)).astype(np.float32)
    mean, std = np.array([0.3, -0.4]), np.array([0.2, 0.5])
    plane = oracles.gaussian(mean, std**2)
    function = jax.jit(partial(probability_flow.uniform_bound, plane.denoise, levels=LEVELS, tolerance=1e-5))
    ours = function(jnp.asarray(x), jnp.asarray(u), gamma_0=GAMMA_DATA, gamma_1=GAMMA_NOISE)
    # log(1/volume) in z₀, and the density in two dimensions.
    log_alpha = log_expit(-GAMMA_DATA) / 2
    np.testing.assert_allclose(ours.dequantization, np.full(6, -2 * (np.log(2 / LEVELS) + log_alpha)), rtol=1e-5)
    z_0 = np.exp(log_alpha) * (2 * (x + u) / LEVELS - 1)
    std_0 = np.hypot(oracle.alpha(GAMMA_DATA) * std, oracle.sigma(GAMMA_DATA))
    density = stats.norm.logpdf(z_0, oracle.alpha(GAMMA_DATA) * mean, std_0)
    np.testing.assert_allclose(ours.latent, -density.sum(axis=1), rtol=0, atol=1e-3)
