"""The probability-flow ODE and its densities, against affine flows, mixtures and quadrature in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy import stats
from scipy.special import expit, log_expit, logsumexp

from vdm import likelihoods, oracles, probability_flow
from vdm.predictions import Denoiser

RNG = np.random.default_rng(0)
WEIGHTS = np.array([0.3, 0.5, 0.2])
MEANS = RNG.uniform(-0.8, 0.8, (3, 2))
STDS = RNG.uniform(0.05, 0.3, (3, 2))
PLANE = oracles.mixture(WEIGHTS, MEANS, STDS)
GAMMA_0, GAMMA_1 = -6.0, 5.0
# At this γ₁, α = 4.5e-5: the exact marginal and N(0, 1) differ by less than 1e-3 nats.
GAMMA_NOISE = 20.0
log_likelihood = jax.jit(probability_flow.log_likelihood, static_argnums=(0, 6))
encode = jax.jit(probability_flow.encode, static_argnums=(0, 5))
sample = jax.jit(probability_flow.sample, static_argnums=(0, 5))
rademacher = jax.jit(probability_flow.rademacher, static_argnums=(1, 2))


def log_mixture(z, gamma, weights=WEIGHTS, means=MEANS, stds=STDS) -> np.ndarray:
    """log-density of z_t, (batch,), for a mixture of K Gaussians in D dimensions."""
    z = oracle.f64(z)[:, None]
    std = np.sqrt(expit(-gamma) * np.square(stds) + expit(gamma))
    logs = stats.norm.logpdf(z, oracle.alpha(gamma) * means, std).sum(axis=2)
    return logsumexp(logs, axis=1, b=weights)


def log_noise(z) -> np.ndarray:
    return stats.norm.logpdf(oracle.f64(z)).sum(axis=1)


def draws(num: int, gamma: float = GAMMA_0) -> np.ndarray:
    """z_t of the mixture `PLANE`, (num, 2), float64."""
    k = RNG.choice(3, num, p=WEIGHTS)
    x = MEANS[k] + STDS[k] * RNG.normal(size=(num, 2))
    return oracle.alpha(gamma) * x + oracle.sigma(gamma) * RNG.normal(size=(num, 2))


Z_0 = draws(8)
Z32 = jnp.asarray(Z_0, jnp.float32)


def fixed(x, eps) -> Denoiser:
    """The denoiser that believes in this x and ε, whatever z is."""
    return Denoiser(lambda z, gamma: (x, eps))


def test_velocity_is_the_derivative_of_alpha_x_plus_sigma_eps():
    gamma = np.array([-13.0, -5.0, 0.0, 2.0, 13.0])
    x, eps = RNG.uniform(-1, 1, (2, 5, 3))
    with jax.enable_x64(True):
        z = jnp.asarray(RNG.normal(size=x.shape))
        ours = probability_flow.velocity(fixed(jnp.asarray(x), jnp.asarray(eps)), z, jnp.asarray(gamma))
    expected = oracle.central_difference(
        lambda gamma: oracle.alpha(gamma)[:, None] * x + oracle.sigma(gamma)[:, None] * eps, gamma, step=1e-5
    )
    # A third derivative of order 1 times step² = 1e-10; 1e-16/step = 1e-11.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


def test_velocity_of_a_network_of_eps_alone():
    """With x̂ eliminated, dz/dγ = ½ σ (ε̂ − σ z)."""
    gamma = np.float32([-10, -1, 0, 4, 9])
    z = jnp.asarray(RNG.normal(size=(5, 2)), jnp.float32)
    ours = probability_flow.velocity(lambda z, gamma: jnp.sin(3 * z), z, jnp.asarray(gamma))
    sigma = oracle.sigma(gamma)[:, None]
    # x̂ = (z − σ ε̂)/α is multiplied by α again: a few roundings of numbers of order 1.
    np.testing.assert_allclose(ours, 0.5 * sigma * (np.sin(3 * oracle.f64(z)) - sigma * z), rtol=0, atol=8 * oracle.EPS)


@pytest.mark.parametrize(("start", "end"), [(-13.3, 5.0), (5.0, -13.3), (-1.0, 0.5)])
def test_the_flow_of_fixed_x_and_eps_is_alpha_x_plus_sigma_eps(start, end):
    x, eps = RNG.uniform(-1, 1, (2, 4, 3)).astype(np.float32)
    z = oracle.alpha(start) * x + oracle.sigma(start) * eps
    solution = encode(fixed(jnp.asarray(x), jnp.asarray(eps)), jnp.asarray(z, jnp.float32), start, end, 1e-5)
    # Some tens of steps of error 1e-5 σ(γ), and as many roundings.
    expected = oracle.alpha(end) * x + oracle.sigma(end) * eps
    np.testing.assert_allclose(solution.z, expected, rtol=0, atol=3e-4 * max(oracle.sigma([start, end])))


def test_the_flow_of_gaussian_data_is_affine():
    """(z − α m)/r is constant, r² = α² s² + σ²; the density at the far end, N(0, 1), comes back multiplied by r₁/r₀."""
    mean, std = np.array([0.3, -0.6, 0.1]), np.array([0.02, 0.3, 1.5])
    data = oracles.gaussian(mean, std**2)
    alpha_0, alpha_1 = oracle.alpha([GAMMA_0, GAMMA_1])
    r_0, r_1 = (np.sqrt(expit(-gamma) * std**2 + expit(gamma)) for gamma in (GAMMA_0, GAMMA_1))
    z_0 = alpha_0 * mean + r_0 * RNG.normal(size=(6, 3))
    z_1 = alpha_1 * mean + r_1 * (z_0 - alpha_0 * mean) / r_0
    with jax.enable_x64(True):
        there = log_likelihood(data.denoise, jnp.asarray(z_0), GAMMA_0, GAMMA_1, None, 1e-8)
        back = sample(data.denoise, jnp.asarray(z_1), GAMMA_1, GAMMA_0, 1e-8)
    assert there.divergence.shape == (6, 1)
    # Errors of 1e-8 a step; an error of z₁, of size 1, is one of z₀/r₀.
    np.testing.assert_allclose(there.z_1, z_1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(back.z, z_0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(there.divergence[:, 0], np.sum(np.log(r_1 / r_0)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(there.log_prob, log_noise(z_1) + np.sum(np.log(r_1 / r_0)), rtol=0, atol=1e-6)


def test_log_likelihood_of_a_mixture():
    """The flow of the exact denoiser carries p at γ₁ to p at γ₀; ours starts from N(0, I) instead of p at γ₁."""
    with jax.enable_x64(True):
        ours = log_likelihood(PLANE.denoise, jnp.asarray(Z_0), GAMMA_0, GAMMA_1, None, 1e-8)
    expected = log_mixture(Z_0, GAMMA_0) + log_noise(ours.z_1) - log_mixture(ours.z_1, GAMMA_1)
    np.testing.assert_allclose(ours.log_prob, expected, rtol=0, atol=1e-6)
    assert np.abs(log_noise(ours.z_1) - log_mixture(ours.z_1, GAMMA_1)).max() > 1e-3  # what this test corrects for


def test_log_likelihood_down_from_pure_noise_in_float32():
    ours = log_likelihood(PLANE.denoise, Z32, GAMMA_0, GAMMA_NOISE, None, 1e-5)
    np.testing.assert_allclose(ours.log_prob, log_mixture(Z32, GAMMA_0), rtol=0, atol=1e-3)


# Points one of 256 levels apart, at the paper's γ₀: z moves by 1e-3 while p(z₀) changes altogether.
SHARP_MEANS = (2 * RNG.integers(120, 124, (6, 4)) + 1) / 256 - 1
SHARP = oracles.mixture(np.full(6, 1 / 6), SHARP_MEANS, np.zeros(6))


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4])
def test_the_error_is_a_few_tolerances_a_dimension_at_any_noise_level(tolerance):
    for gamma_0 in (-13.3, -9.0, -5.0):
        rng = np.random.default_rng(1)
        noise = oracle.sigma(gamma_0) * rng.normal(size=(12, 4))
        z_0 = jnp.asarray(oracle.alpha(gamma_0) * SHARP_MEANS[rng.integers(6, size=12)] + noise, jnp.float32)
        ours = log_likelihood(SHARP.denoise, z_0, np.float32(gamma_0), np.float32(GAMMA_1), None, tolerance)
        sharp = partial(log_mixture, weights=np.full(6, 1 / 6), means=SHARP_MEANS, stds=np.zeros((6, 4)))
        expected = sharp(z_0, np.float32(gamma_0)) + log_noise(ours.z_1) - sharp(ours.z_1, GAMMA_1)
        error = np.abs(ours.log_prob - expected) / 4
        # z₀ is rounded at size 1, which 1/σ₀ magnifies; ten to thirty steps.
        assert error.max() < 10 * tolerance + 4 * oracle.EPS / oracle.sigma(gamma_0), gamma_0
        assert ours.num_calls.max() < 300


def test_samples_are_good_to_the_noise_that_is_left():
    """Down to γ₀ = −13.3, for data hardly wider than σ₀ = 0.0013: the error is a few tolerances of σ₀, not of 1."""
    narrow, gamma_0 = oracles.gaussian([0.2, 0.1], [1e-6, 1e-6]), np.float32(-13.3)
    z_1 = RNG.normal(size=(8, 2)).astype(np.float32)
    r_0, r_1 = (np.sqrt(expit(-gamma) * 1e-6 + expit(gamma)) for gamma in (oracle.f64(gamma_0), GAMMA_1))
    mean = np.array([0.2, 0.1])
    expected = oracle.alpha(gamma_0) * mean + r_0 / r_1 * (z_1 - oracle.alpha(GAMMA_1) * mean)
    ours = sample(narrow.denoise, jnp.asarray(z_1), GAMMA_1, gamma_0, 1e-4)
    np.testing.assert_allclose(ours.z, expected, rtol=0, atol=10 * 1e-4 * oracle.sigma(gamma_0))


def test_encode_is_the_inverse_of_sample():
    with jax.enable_x64(True):
        there = encode(PLANE.denoise, jnp.asarray(Z_0), GAMMA_0, GAMMA_1, 1e-8)
        back = sample(PLANE.denoise, there.z, GAMMA_1, GAMMA_0, 1e-8)
    np.testing.assert_allclose(back.z, Z_0, rtol=0, atol=1e-6)
    assert np.abs(np.asarray(there.z) - Z_0).max() > 0.1


def test_samples_have_the_density():
    """In one dimension the flow keeps the order: it takes quantiles of N(0, 1) to those of the mixture."""
    weights, means, stds = np.array([0.4, 0.6]), np.array([[-0.5], [0.4]]), np.array([[0.1], [0.2]])
    line = oracles.mixture(weights, means, stds)
    quantiles = np.linspace(0.02, 0.98, 9)
    z_0 = oracle.f64(sample(line.denoise, jnp.asarray(stats.norm.ppf(quantiles)[:, None], jnp.float32), 20.0, -6.0).z)
    std = np.sqrt(expit(6.0) * stds[:, 0] ** 2 + expit(-6.0))
    below = stats.norm.cdf(z_0, oracle.alpha(-6.0) * means[:, 0], std) @ weights
    np.testing.assert_allclose(below, quantiles, rtol=0, atol=1e-3)


def test_hutchinson_agrees_within_its_standard_error():
    exact = log_likelihood(PLANE.denoise, Z32, GAMMA_0, GAMMA_1)
    probes = rademacher(jax.random.key(0), Z32.shape, 256)
    ours = log_likelihood(PLANE.denoise, Z32, GAMMA_0, GAMMA_1, probes)
    assert ours.divergence.shape == (8, 256)
    # Solver errors of a few 1e-4 on top: 4 standard errors, of 0.01 and more, cover them.
    error = np.std(ours.divergence, axis=1, ddof=1) / 16
    assert np.median(error) > 0.003
    assert np.all(np.abs(ours.divergence.mean(axis=1) - exact.divergence[:, 0]) < 4 * error + 2e-3)
    np.testing.assert_allclose(ours.log_prob, log_noise(ours.z_1) + ours.divergence.mean(axis=1), rtol=0, atol=1e-4)


def test_signs_are_exact_in_one_dimension():
    line = oracles.mixture([0.4, 0.6], [[-0.5], [0.4]], [0.1, 0.2])
    z_0 = jnp.linspace(-1, 1, 5)[:, None]
    exact = log_likelihood(line.denoise, z_0, GAMMA_0, GAMMA_1)
    probes = rademacher(jax.random.key(0), z_0.shape, 2)
    ours = log_likelihood(line.denoise, z_0, GAMMA_0, GAMMA_1, probes)
    # Two sums of some 200 float32 steps up to 2, each rounded in its own way.
    np.testing.assert_allclose(ours.divergence, np.repeat(exact.divergence, 2, axis=1), rtol=0, atol=5e-5)


def test_probes_are_signs_of_each_image_own_key():
    key = jax.random.key(3)
    probes = rademacher(key, (6, 10, 10), 5)
    assert probes.shape == (6, 5, 10, 10)
    np.testing.assert_array_equal(np.abs(probes), 1)
    # Covariance I: no mean, and no two of the 30 probes alike.
    flat = oracle.f64(probes).reshape(30, 100)
    oracle.assert_mean(flat.ravel(), 0)
    assert np.abs(flat @ flat.T - 100 * np.eye(30)).max() < 50
    np.testing.assert_array_equal(rademacher(key, (2, 10, 10), 5, first=4), probes[4:])


def test_an_example_does_not_depend_on_its_batch():
    together = log_likelihood(PLANE.denoise, Z32, GAMMA_0, GAMMA_1)
    assert len(set(together.num_calls.tolist())) > 1
    for i in (0, 7):
        alone = log_likelihood(PLANE.denoise, Z32[i : i + 1], GAMMA_0, GAMMA_1)
        assert alone.num_calls == together.num_calls[i]
        # The same arithmetic, in another order at most.
        np.testing.assert_allclose(alone.log_prob[0], together.log_prob[i], rtol=0, atol=2e-4)


def test_the_network_sees_the_whole_batch():
    """As it must where it holds one condition an image; γ comes one an image or as a scalar."""
    means = jnp.asarray(MEANS, jnp.float32)

    def denoise(z, gamma):
        assert z.shape == (3, 2)
        assert gamma.shape == (3,)
        var, mean = jax.nn.sigmoid(gamma)[:, None], jnp.sqrt(jax.nn.sigmoid(-gamma))[:, None] * means
        return jnp.sqrt(var) * (z - mean) / ((1 - var) * 0.04 + var)

    z_1 = jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32)
    r_0, r_1 = (np.sqrt(expit(-gamma) * 0.04 + expit(gamma)) for gamma in (GAMMA_0, GAMMA_1))
    expected = oracle.alpha(GAMMA_0) * MEANS + r_0 / r_1 * (z_1 - oracle.alpha(GAMMA_1) * MEANS)
    np.testing.assert_allclose(sample(denoise, z_1, GAMMA_1, GAMMA_0).z, expected, rtol=0, atol=1e-3)
    # Draws are a vmap around it.
    many = jax.jit(jax.vmap(lambda z: probability_flow.sample(denoise, z, GAMMA_1, GAMMA_0).z))(jnp.stack([z_1, z_1]))
    np.testing.assert_allclose(many, [expected, expected], rtol=0, atol=1e-3)


def test_the_networks_variables_may_be_traced():
    """ε̂ = a z has div f = ½ D σ (a − σ): log p(z₀) without a solver, for each a of one compiled program."""

    def log_prob(slope, z, probes):
        return probability_flow.log_likelihood(lambda z, gamma: slope * z, z, GAMMA_0, GAMMA_1, probes).log_prob

    z, probes = Z32[:2], rademacher(jax.random.key(0), (2, 2), 1)
    function = jax.jit(log_prob)
    gamma = np.linspace(GAMMA_0, GAMMA_1, 20_001)
    for slope in (0.5, 0.9):
        rate = np.trapezoid(oracle.sigma(gamma) * (slope - oracle.sigma(gamma)) / 2, gamma)
        expected = log_noise(oracle.f64(z) * np.exp(rate)) + 2 * rate
        # A few tolerances of 1e-4 in two dimensions.
        np.testing.assert_allclose(function(jnp.float32(slope), z, probes), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("num", [1, 4])
def test_num_calls_are_the_networks_calls(num):
    calls = []

    def denoise(z, gamma):
        jax.debug.callback(lambda _: calls.append(1), z[0, 0])
        return PLANE.denoise(z, gamma)

    solution = jax.block_until_ready(sample(denoise, Z32[:num], GAMMA_1, GAMMA_0))
    jax.effects_barrier()
    # The batch takes as long as its slowest.
    assert len(calls) == solution.num_calls.max()


def test_tighter_tolerances_take_more_calls():
    calls = [int(encode(PLANE.denoise, Z32, GAMMA_0, GAMMA_1, tol).num_calls.sum()) for tol in (1e-2, 1e-4, 1e-6)]
    assert calls[0] < calls[1] < calls[2]


def test_what_does_not_arrive_is_nan_soon():
    def denoise(z, gamma):
        return jnp.where(z[:, :1] > 0, jnp.nan, 1.0) * PLANE.denoise(z, gamma)

    z_1 = jnp.array([[-1.0, 0.5], [2.0, 0.5]])
    solution = sample(denoise, z_1, GAMMA_1, 4.0)
    assert np.isfinite(solution.z[0]).all()
    assert np.isnan(solution.z[1]).all()
    assert solution.num_calls[1] < 100
    assert np.isnan(log_likelihood(PLANE.denoise, Z32, GAMMA_0, GAMMA_1, None, 1e-6, 5).log_prob).all()


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
    function = jax.jit(partial(probability_flow.uniform_bound, PLANE.denoise, levels=LEVELS, tolerance=1e-5))
    ours = function(jnp.asarray(x), jnp.asarray(u), gamma_0=GAMMA_DATA, gamma_1=GAMMA_NOISE)
    # log(1/volume) in z₀, and the density in two dimensions.
    log_alpha = log_expit(-GAMMA_DATA) / 2
    np.testing.assert_allclose(ours.dequantization, np.full(6, -2 * (np.log(2 / LEVELS) + log_alpha)), rtol=1e-5)
    z_0 = np.exp(log_alpha) * (2 * (x + u) / LEVELS - 1)
    np.testing.assert_allclose(ours.latent, -log_mixture(z_0, GAMMA_DATA), rtol=0, atol=1e-3)


def test_no_probes_are_refused():
    with pytest.raises(ValueError, match="num_probes=0: must be 1 or more"):
        probability_flow.rademacher(jax.random.key(0), (2, 3), 0)
