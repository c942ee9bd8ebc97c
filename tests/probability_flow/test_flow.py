"""The probability-flow ODE and its densities, against affine flows and mixtures in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy import stats
from scipy.linalg import expm
from scipy.special import expit, logsumexp

from vdm import oracles, probability_flow
from vdm.predictions import Both, Prediction

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


def fixed(x, eps) -> Both:
    """The denoiser that believes in this x and ε, whatever z is."""
    return lambda z, gamma: Prediction(x, eps)


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


def test_the_flow_of_fixed_x_and_eps_is_alpha_x_plus_sigma_eps():
    x, eps = RNG.uniform(-1, 1, (2, 4, 3)).astype(np.float32)
    flow = jax.jit(lambda x, eps, z, *ends: probability_flow.encode(fixed(x, eps), z, *ends, 1e-5).z)
    for start, end in ((-13.3, 5.0), (5.0, -13.3), (-1.0, 0.5)):
        z = oracle.alpha(start) * x + oracle.sigma(start) * eps
        # Some tens of steps of error 1e-5 σ(γ), and as many roundings.
        np.testing.assert_allclose(
            flow(jnp.asarray(x), jnp.asarray(eps), jnp.asarray(z, jnp.float32), start, end),
            oracle.alpha(end) * x + oracle.sigma(end) * eps,
            rtol=0,
            atol=3e-4 * max(oracle.sigma([start, end])),
        )


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
    assert there.divergence.shape == (6, 1)
    # Errors of 1e-8 a step; an error of z₀/r₀ is one of z₁, of size 1.
    np.testing.assert_allclose(there.z_1, z_1, rtol=0, atol=1e-6)
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


def test_encode_is_its_own_inverse_from_the_other_end():
    with jax.enable_x64(True):
        there = encode(PLANE.denoise, jnp.asarray(Z_0), GAMMA_0, GAMMA_1, 1e-8)
        back = encode(PLANE.denoise, there.z, GAMMA_1, GAMMA_0, 1e-8)
    np.testing.assert_allclose(back.z, Z_0, rtol=0, atol=1e-6)
    assert np.abs(np.asarray(there.z) - Z_0).max() > 0.1


def test_samples_have_the_density():
    """In one dimension the flow keeps the order: it takes quantiles of N(0, 1) to those of the mixture."""
    weights, means, stds = np.array([0.4, 0.6]), np.array([[-0.5], [0.4]]), np.array([[0.1], [0.2]])
    line = oracles.mixture(weights, means, stds)
    quantiles = np.linspace(0.02, 0.98, 9)
    z_1 = jnp.asarray(stats.norm.ppf(quantiles)[:, None], jnp.float32)
    # At 1e-4 a step here and there is accepted with 15 times that, depending on the last bits.
    z_0 = oracle.f64(sample(line.denoise, z_1, 20.0, -6.0, tolerance=1e-5).z)
    std = np.sqrt(expit(6.0) * stds[:, 0] ** 2 + expit(-6.0))
    below = stats.norm.cdf(z_0, oracle.alpha(-6.0) * means[:, 0], std) @ weights
    np.testing.assert_allclose(below, quantiles, rtol=0, atol=1e-4)


def test_each_probe_has_its_quadratic_form():
    """ε̂ = A z with variables A has ∂f/∂z = ½ σ (A − σ 1): no solver, for each A of one compiled program.

    With I₁ = ½ ∫ σ dγ and I₂ = ½ ∫ σ² dγ the divergence by a probe v is v·A v I₁ − v·v I₂, of which tr A I₁ − D I₂ is
    the mean: A is far from symmetric and from diagonal, so that probes differ, and z₁ = exp(A I₁ − I₂) z₀.
    """

    def solved(matrix, z, probes):
        return probability_flow.log_likelihood(lambda z, gamma: z @ matrix.T, z, GAMMA_0, GAMMA_1, probes, 1e-5)

    z = jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32)
    probes = jnp.asarray(RNG.choice([-1, 1], (2, 5, 3)) * [1, 1, 0.5], jnp.float32)
    function = jax.jit(solved)
    gamma = np.linspace(GAMMA_0, GAMMA_1, 20_001)
    first, second = (np.trapezoid(oracle.sigma(gamma) ** power / 2, gamma) for power in (1, 2))
    for seed, several in ((1, probes), (2, probes), (2, None)):
        matrix = np.random.default_rng(seed).normal(size=(3, 3)).astype(np.float32) / 2
        ours = function(jnp.asarray(matrix), z, several)
        z_1 = oracle.f64(z) @ expm(oracle.f64(matrix) * first - np.eye(3) * second).T
        if several is None:
            expected = np.full((2, 1), np.trace(matrix) * first - 3 * second)
        else:
            v = oracle.f64(probes)
            expected = np.einsum("bpi,ij,bpj->bp", v, matrix, v) * first - np.square(v).sum(axis=2) * second
            assert expected.std(axis=1).min() > 0.1
        # A few tolerances of 1e-5 in three dimensions.
        np.testing.assert_allclose(ours.z_1, z_1, rtol=0, atol=3e-4)
        np.testing.assert_allclose(ours.divergence, expected, rtol=0, atol=3e-4)
        np.testing.assert_allclose(ours.log_prob, log_noise(z_1) + expected.mean(axis=1), rtol=0, atol=1e-3)


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
    together = log_likelihood(PLANE.denoise, Z32, GAMMA_0, GAMMA_1, None, 1e-4)
    assert len(set(together.num_calls.tolist())) > 1
    for i in (0, 7):
        alone = log_likelihood(PLANE.denoise, Z32[i : i + 1], GAMMA_0, GAMMA_1, None, 1e-4)
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
    # Draws are a vmap around it.
    many = jax.jit(jax.vmap(lambda z: probability_flow.sample(denoise, z, GAMMA_1, GAMMA_0).z))(jnp.stack([z_1, z_1]))
    np.testing.assert_allclose(many, [expected, expected], rtol=0, atol=1e-3)


def test_num_calls_are_the_networks_calls():
    calls = []

    def denoise(z, gamma):
        jax.debug.callback(lambda _: calls.append(1), z[0, 0])
        return PLANE.denoise(z, gamma)

    solution = jax.block_until_ready(sample(denoise, Z32[:4], GAMMA_1, GAMMA_0))
    jax.effects_barrier()
    # The batch takes as long as its slowest.
    assert len(calls) == solution.num_calls.max()


def test_tighter_tolerances_take_more_calls():
    calls = [int(encode(PLANE.denoise, Z32, GAMMA_0, GAMMA_1, tol).num_calls.sum()) for tol in (1e-2, 1e-4, 1e-6)]
    assert calls[0] < calls[1] < calls[2]


def test_what_does_not_arrive_is_nan_soon():
    """A network that is not finite, and one that would take more steps than it is given: of these examples alone."""

    def denoise(z, gamma):
        rough = jnp.where(z[:, 1:] > 3, jnp.sin(100 * gamma)[:, None], 0)
        return jnp.where(z[:, :1] > 0, jnp.nan, 1.0) * PLANE.denoise(z, gamma) + 10 * rough

    z_1 = jnp.array([[-1.0, 0.5], [2.0, 0.5], [-1.0, 100.0]])
    solution = sample(denoise, z_1, GAMMA_1, 4.0, 1e-4, 40)
    assert np.isfinite(solution.z[0]).all()
    assert np.isnan(solution.z[1:]).all()
    assert solution.num_calls[1] < 100
    assert solution.num_calls[2] == 6 * 40 + 1


def test_no_probes_are_refused():
    with pytest.raises(ValueError, match="num_probes=0: must be 1 or more"):
        probability_flow.rademacher(jax.random.key(0), (2, 3), 0)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(("change", "says"), [
    ({"tolerance": 0.0}, "tolerance=0: must be above 0 and finite"),
    ({"tolerance": -1e-4}, "tolerance=-0.0001: must be"),
    ({"tolerance": np.nan}, "tolerance=nan: must be"),
    ({"tolerance": np.inf}, "tolerance=inf: must be"),
    ({"max_steps": 0}, "max_steps=0: must be a whole number, 1 or more"),
    ({"max_steps": 2.5}, "max_steps=2.5: must be"),
    ({"gamma_0": jnp.full(8, GAMMA_0)}, r"gamma_0, gamma_1: one has shape \(8,\): must be scalars"),
])  # fmt: skip
def test_settings_that_solve_nothing_are_refused(change, says):
    settings = {"gamma_0": GAMMA_0, "gamma_1": GAMMA_1} | change
    for call in (probability_flow.encode, probability_flow.sample, probability_flow.log_likelihood):
        with pytest.raises(ValueError, match=f"^{says}"):
            call(PLANE.denoise, Z32, **settings)
