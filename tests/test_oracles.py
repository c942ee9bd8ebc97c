"""The closed-form oracles: the score identity, numerical integration, scipy's densities, and their own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy import integrate, stats
from scipy.special import logsumexp

from vdm import likelihoods, oracles

WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-0.6, 0.5]), np.array([0.1, 0.3])
LINE = oracles.mixture(WEIGHTS, MEANS[:, None], STDS)
LINE_DENOISE, LINE_LOG_MARGINAL = jax.jit(LINE.denoise), jax.jit(LINE.log_marginal)
RNG = np.random.default_rng(0)
IMAGES = oracles.mixture([0.2, 0.5, 0.3], RNG.uniform(-1, 1, (3, 2, 2, 1)), RNG.uniform(0.1, 0.5, (3, 2, 2, 1)))
POINTS = np.array([[-0.5, 0.25], [0.75, 0.0], [0.0, 1.0]])
ORACLES = {
    "gaussian": oracles.gaussian(RNG.uniform(-1, 1, (2, 2, 1)), RNG.uniform(0.1, 0.5, (2, 2, 1))),
    "mixture": IMAGES,
    "points": oracles.mixture([0.2, 0.5, 0.3], POINTS, [0.0, 0.0, 0.0]),
}
GAMMAS = (-20.0, -13.3, -5.0, 0.0, 5.0, 20.0)


def draw(data: oracles.Oracle, num: int) -> jax.Array:
    return jax.jit(data.sample, static_argnums=1)(jax.random.key(0), num)


def diffused(name: str) -> tuple[jax.Array, jax.Array, np.ndarray]:
    """(z, γ, σ) of three draws of z_t at each of `GAMMAS`, in float64; σ with axes to broadcast against z."""
    gamma = np.repeat(GAMMAS, 3)
    x = oracle.f64(draw(ORACLES[name], gamma.size))
    alpha, sigma = (f(gamma).reshape(-1, *[1] * (x.ndim - 1)) for f in (oracle.alpha, oracle.sigma))
    with jax.enable_x64(True):
        return jnp.asarray(alpha * x + sigma * RNG.normal(size=x.shape)), jnp.asarray(gamma), sigma


def marginal(gamma: float) -> list:
    """The components of z_t's density for `LINE`, as scipy's."""
    std = np.sqrt(oracle.alpha(gamma) ** 2 * STDS**2 + oracle.sigma(gamma) ** 2)
    return [stats.norm(oracle.alpha(gamma) * m, s) for m, s in zip(MEANS, std, strict=True)]


@pytest.mark.parametrize("name", ORACLES)
def test_the_denoiser_is_minus_sigma_times_the_score(name):
    z, gamma, sigma = diffused(name)
    with jax.enable_x64(True):
        score = jax.jit(jax.grad(lambda z: ORACLES[name].log_marginal(z, gamma).sum()))(z)
        eps_hat = jax.jit(ORACLES[name].denoise)(z, gamma)
    assert eps_hat.shape == z.shape
    assert eps_hat.dtype == np.float64
    # α m is rounded at size 1, which 1/σ ≤ 2e4 magnifies.
    np.testing.assert_allclose(eps_hat, -sigma * np.asarray(score), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("gamma", [-6.0, -2.0, 0.0, 3.0])
@pytest.mark.parametrize("z", [-0.8, 0.05, 1.3])
def test_the_denoiser_is_the_mean_of_the_noise_given_z(z, gamma):
    """∫ ε p(x) q(z|x) dx / ∫ p(x) q(z|x) dx, with ε = (z − α x)/σ."""
    alpha, sigma = oracle.alpha(gamma), oracle.sigma(gamma)

    def joint(x):
        return sum(w * stats.norm.pdf(x, m, s) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True)) * stats.norm.pdf(
            z, alpha * x, sigma
        )

    near = np.clip(z / alpha, -1.9, 1.9)
    total, _ = integrate.quad(joint, -3, 3, points=[near, *MEANS], limit=400, epsabs=0, epsrel=1e-10)
    noise, _ = integrate.quad(
        lambda x: (z - alpha * x) / sigma * joint(x), -3, 3, points=[near, *MEANS], limit=400, epsrel=1e-10
    )
    with jax.enable_x64(True):
        np.testing.assert_allclose(LINE_DENOISE(jnp.array([[z]]), gamma), [[noise / total]], rtol=1e-7)
        np.testing.assert_allclose(LINE_LOG_MARGINAL(jnp.array([[z]]), gamma), [np.log(total)], rtol=1e-7)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_log_marginal_against_scipy(gamma):
    z = np.linspace(-4, 4, 33)
    expected = logsumexp([np.log(w) + n.logpdf(z) for w, n in zip(WEIGHTS, marginal(gamma), strict=True)], axis=0)
    with jax.enable_x64(True):
        np.testing.assert_allclose(LINE_LOG_MARGINAL(jnp.asarray(z)[:, None], gamma), expected, rtol=1e-10)


@pytest.mark.parametrize("gamma", [-6.0, 0.0, 20.0])
def test_log_marginal_integrates_to_1(gamma):
    z = np.linspace(-8, 8, 16_001)
    with jax.enable_x64(True):
        density = np.exp(np.asarray(LINE_LOG_MARGINAL(jnp.asarray(z)[:, None], gamma)))
    np.testing.assert_allclose(np.sum(density) * (z[1] - z[0]), 1, rtol=1e-10)


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_log_prob_is_the_marginal_without_noise(name):
    with jax.enable_x64(True):
        x = draw(ORACLES[name], 5)
        # σ² = e^{−34} adds 1e-15 to variances of 0.01 and more.
        expected = jax.jit(ORACLES[name].log_marginal)(x, -34.0)
        np.testing.assert_allclose(jax.jit(ORACLES[name].log_prob)(x), expected, rtol=1e-9)


def test_log_prob_against_scipy():
    """Components independent in their dimensions, and one density for both."""
    means, stds = RNG.uniform(-1, 1, (2, 3)), RNG.uniform(0.1, 0.5, (2, 3))
    x = RNG.normal(size=(5, 3))
    components = [stats.multivariate_normal(m, np.diag(s**2)).logpdf(x) for m, s in zip(means, stds, strict=True)]
    expected = logsumexp(np.log(WEIGHTS)[:, None] + np.array(components), axis=0)
    with jax.enable_x64(True):
        np.testing.assert_allclose(oracles.mixture(WEIGHTS, means, stds).log_prob(jnp.asarray(x)), expected)
        np.testing.assert_allclose(oracles.gaussian(means[0], stds[0] ** 2).log_prob(jnp.asarray(x)), components[0])


def test_log_prob_of_integer_images_is_their_log_probability():
    images = jnp.array([[3, 12], [4, 12]]).reshape(2, 1, 2, 1)
    codes = likelihoods.encode(images, 17)
    log_prob = oracles.mixture([0.25, 0.75], codes, np.zeros(2)).log_prob
    np.testing.assert_allclose(log_prob(codes), np.log([0.25, 0.75]), rtol=1e-6)
    np.testing.assert_array_equal(log_prob(likelihoods.encode(images[:1] + 1, 17)), [-np.inf])


def test_gamma_a_scalar_or_one_an_example():
    z, gamma, _ = diffused("mixture")
    with jax.enable_x64(True):
        for function in (jax.jit(IMAGES.denoise), jax.jit(IMAGES.log_marginal)):
            together = function(z, gamma)
            apart = [function(z[k : k + 3], gamma[k])[0] for k in range(0, gamma.size, 3)]
            np.testing.assert_allclose(together[::3], np.stack(apart), rtol=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_float32_against_float64(name):
    z, gamma, sigma = diffused(name)
    z, gamma = z.astype(np.float32), gamma.astype(np.float32)
    functions = (ORACLES[name].denoise, ORACLES[name].log_marginal)
    eps_hat, log_density = (np.asarray(jax.jit(f)(z, gamma)) for f in functions)
    assert eps_hat.dtype == log_density.dtype == np.float32
    with jax.enable_x64(True):
        exact = [np.asarray(jax.jit(f)(z.astype(np.float64), gamma.astype(np.float64))) for f in functions]
    # z − α m is rounded at size 1, then divided by the component's deviation: σ for points, 0.1 or more for the others.
    size = oracle.EPS / np.hypot(sigma, 0 if name == "points" else 0.1)
    assert np.all(np.abs(eps_hat - exact[0]) < 4 * size + 1e-6)
    # log N holds half the square of that quotient, which is below 5; each of up to four dimensions adds its share.
    assert np.all(np.abs(log_density - exact[1]) < 4 * 5 * size.ravel() + 1e-5)


def test_finite_far_off_the_data():
    for name, data in ORACLES.items():
        z = np.full_like(diffused(name)[0], 5.0, np.float32)
        for function in (data.denoise, data.log_marginal):
            assert np.all(np.isfinite(jax.jit(function)(z, np.repeat(np.float32([-20, 0, 20]), 6))))


def test_samples_have_the_mixtures_moments():
    samples = oracle.f64(draw(LINE, 100_000))
    assert samples.shape == (100_000, 1)
    oracle.assert_mean(samples, np.sum(WEIGHTS * MEANS))
    oracle.assert_mean(samples**2, np.sum(WEIGHTS * (MEANS**2 + STDS**2)))
    left = sum(w * stats.norm.cdf(0, m, s) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))
    oracle.assert_mean(samples < 0, left)


def test_samples_of_a_gaussian_and_of_points():
    mean, variance = np.array([0.3, -0.5]), np.array([0.2, 0.04])
    samples = oracle.f64(draw(oracles.gaussian(mean, variance), 50_000))
    oracle.assert_mean(samples, mean)
    oracle.assert_mean((samples - mean) ** 2, variance)
    oracle.assert_mean(np.prod(samples - mean, axis=1), 0.0)
    samples = np.asarray(draw(ORACLES["points"], 50_000))
    for point, probability in zip(POINTS, (0.2, 0.5, 0.3), strict=True):
        oracle.assert_mean(np.all(samples == point, axis=1), probability)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: oracles.mixture([0.5, 0.6], np.zeros((2, 1)), np.ones(2)), "weights=.*with sum 1"),
        (lambda: oracles.mixture([1.5, -0.5], np.zeros((2, 1)), np.ones(2)), "weights=.*must be positive"),
        (lambda: oracles.mixture([1.0, 0.0], np.zeros((2, 1)), np.ones(2)), "weights=.*must be positive"),
        (lambda: oracles.mixture([[1.0]], np.zeros((1, 1)), np.ones(1)), r"weights=.*of shape \(K,\)"),
        (lambda: oracles.mixture([1.0], np.zeros((2, 1)), np.ones(1)), r"means has shape \(2, 1\): must be \(1, "),
        (lambda: oracles.mixture([1.0], np.zeros((1, 2)), np.ones((1, 3))), r"stds has shape .* \(1,\) or \(1, 2\)"),
        (lambda: oracles.mixture([1.0], np.zeros((1, 2)), [-1.0]), "stds=.*must be 0 or more"),
        (lambda: oracles.mixture([1.0], np.full((1, 2), np.nan), [1.0]), "means=.*must be finite"),
        (lambda: oracles.gaussian(np.zeros(2), np.ones(3)), r"cov_diag has shape \(3,\): .* \(2,\)"),
        (lambda: oracles.gaussian(np.zeros(2), np.array([1.0, -1.0])), "cov_diag=.*must be 0 or more"),
        (lambda: LINE.denoise(jnp.zeros((4, 2)), 0.0), r"z has shape \(4, 2\)"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
