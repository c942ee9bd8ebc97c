"""The bound's terms: closed forms in float64, and Gaussian data with the exact denoiser, where the bound is known."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import EPS
from scipy import integrate, stats
from scipy.special import expit

from vdm import bounds, likelihoods, schedules

# Data x ~ N(MEAN, STD²), independent in DIMS dimensions, with NUM examples.
MEAN, STD, DIMS, NUM = 0.3, 0.6, 3, 40_000
GAMMA_0, GAMMA_1 = -6.0, 4.0
MONOTONE = schedules.learned_monotone(GAMMA_0, GAMMA_1, hidden=5)
SCHEDULES = {
    "linear": partial(schedules.linear(GAMMA_0, GAMMA_1).gamma, {}),
    "cosine": partial(schedules.cosine(GAMMA_0, GAMMA_1).gamma, {}),
    "learned_monotone": partial(MONOTONE.gamma, MONOTONE.init(jax.random.key(7))),
}


def denoise(z, gamma):
    """The exact E[ε|z_t] of the data above."""
    return oracle.gaussian_eps(z, jnp.reshape(gamma, (-1,) + (1,) * (z.ndim - 1)), MEAN, STD)


def data(num: int = NUM):
    """(x, ε) with x from the data's distribution."""
    x_key, eps_key = jax.random.split(jax.random.key(1))
    return MEAN + STD * jax.random.normal(x_key, (num, DIMS)), jax.random.normal(eps_key, (num, DIMS))


def residual(gamma):
    """E‖ε − E[ε|z]‖² of one dimension: Var(ε|z) = 1 − σ²/(α²s² + σ²)."""
    return 1 - expit(gamma) / (expit(-gamma) * STD**2 + expit(gamma))


def mutual_information(gamma):
    """I(x; z) of one dimension, in nats: ½ log(1 + s² SNR)."""
    return 0.5 * np.log1p(STD**2 * np.exp(-gamma))


@pytest.mark.parametrize("gamma_1", [-3.0, 0.0, 2.0, 5.0, 12.0])
def test_prior_loss_is_the_kl_divergence(gamma_1):
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, size=(4, 2, 3)), jnp.float32)
    mean, var = oracle.alpha(gamma_1) * oracle.f64(x), oracle.sigma(gamma_1) ** 2
    expected = 0.5 * np.sum(mean**2 + var - 1 - np.log(var), axis=(1, 2))
    # Terms of size α² cancel in part: x² + σ² − 1 of size α², hence relative to α² · 6 dimensions.
    np.testing.assert_allclose(
        bounds.prior_loss(x, gamma_1), expected, rtol=1e-5, atol=40 * EPS * oracle.alpha(gamma_1) ** 2
    )


def test_prior_loss_by_quadrature():
    """∫ q log(q/p) with the densities of scipy: nothing of the closed form is assumed."""
    x, gamma_1 = 0.8, 0.5
    q = stats.norm(oracle.alpha(gamma_1) * x, oracle.sigma(gamma_1))
    expected, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), -12, 12)
    np.testing.assert_allclose(bounds.prior_loss(jnp.array([[x]]), gamma_1), [expected], rtol=1e-5)


def test_prior_loss_vanishes_when_all_is_noise():
    x = jnp.ones((2, 5))
    # ½ α₁² (x² − 1) + ½ (α₁² + …): at x = 1 it is ½ e^{−γ₁} to first order, times the dimensions.
    np.testing.assert_allclose(bounds.prior_loss(x, 18.0), 5 * 0.5 * np.exp(-18.0), rtol=1e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("gamma_0", [-9.0, -5.0, 0.0])
def test_reconstruction_loss(levels, gamma_0):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, levels, size=(6, 4, 2)))
    eps_0 = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    loss = bounds.reconstruction_loss(x, gamma_0, eps_0, levels)
    z_0 = oracle.alpha(gamma_0) * oracle.f64(likelihoods.encode(x, levels)) + oracle.sigma(gamma_0) * oracle.f64(eps_0)
    expected = -oracle.decoder_log_prob(x, z_0, gamma_0, levels).sum(axis=(1, 2))
    # z₀ is rounded at size 1, which its distance in units of σ₀ magnifies: EPS/σ₀ in each of 8 dimensions.
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=8 * 8 * EPS / oracle.sigma(gamma_0))


def test_information_and_quadrature_agree():
    """The oracle against itself: ½ ∫ Var(ε|z) dγ is the information that is lost between the ends (I-MMSE)."""
    integral, _ = integrate.quad(lambda gamma: 0.5 * residual(gamma), GAMMA_0, GAMMA_1)
    np.testing.assert_allclose(integral, mutual_information(GAMMA_0) - mutual_information(GAMMA_1), rtol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_continuous_loss_of_the_exact_denoiser(name):
    """Its mean over t and ε is the lost information, whatever the schedule between equal end points."""
    x, eps = data()
    t = jax.random.uniform(jax.random.key(2), (NUM,))
    losses = jax.jit(partial(bounds.continuous_diffusion_loss, denoise, SCHEDULES[name]))(x, t, eps)
    assert losses.shape == (NUM,)
    expected = DIMS * (mutual_information(GAMMA_0) - mutual_information(GAMMA_1))
    oracle.assert_mean(losses, expected)
    # The estimate is sharp enough to be a test: the standard error is below 3% of the value.
    assert np.std(losses) / np.sqrt(NUM) < 0.03 * expected


@pytest.mark.parametrize("name", SCHEDULES)
def test_continuous_loss_is_half_slope_times_squared_error(name):
    x, eps = data(50)
    t = jnp.linspace(0.01, 0.99, 50)
    gamma = SCHEDULES[name]
    # float32 γ differenced over 1/100: relative error EPS·6/(0.01·slope), below 1e-4 here; curvature below 1e-2.
    gamma_t = oracle.f64(gamma(t))[:, None]
    slope = (oracle.f64(gamma(t + 0.002)) - oracle.f64(gamma(t - 0.002))) / 0.004
    z = oracle.alpha(gamma_t) * oracle.f64(x) + oracle.sigma(gamma_t) * oracle.f64(eps)
    error = oracle.f64(eps) - oracle.gaussian_eps(z, gamma_t, MEAN, STD)
    expected = 0.5 * slope * np.sum(error**2, axis=1)
    np.testing.assert_allclose(bounds.continuous_diffusion_loss(denoise, gamma, x, t, eps), expected, rtol=2e-2)


FINE = 1600


@cache
def fine_grid(name: str):
    """γ(i/FINE) for i = 0 … FINE."""
    return oracle.f64(SCHEDULES[name](jnp.arange(FINE + 1) / FINE))


def discrete_loss(name: str, num_steps: int):
    """float64 sum of Σ_i ½ (SNR_s/SNR_t − 1) Var(ε|z_t) over the steps, in all dimensions."""
    gammas = fine_grid(name)[:: FINE // num_steps]
    return DIMS * np.sum(0.5 * (np.exp(-gammas[:-1]) / np.exp(-gammas[1:]) - 1) * residual(gammas[1:]))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 10, 100])
def test_discrete_loss_of_the_exact_denoiser(name, num_steps):
    x, eps = data()
    # Every step equally often; the examples are independent of the step.
    i = 1 + jnp.arange(NUM) % num_steps
    losses = jax.jit(partial(bounds.discrete_diffusion_loss, denoise, SCHEDULES[name], num_steps=num_steps))(x, i, eps)
    assert losses.shape == (NUM,)
    # Averages over the examples of one step are compared in sum: blocks of `num_steps` examples hold each step once.
    blocks = oracle.f64(losses).reshape(-1, num_steps).mean(axis=1)
    oracle.assert_mean(blocks, discrete_loss(name, num_steps))


def test_discrete_loss_is_the_kl_of_its_step():
    """T·(the loss's expectation at step i) is T · KL(q(z_s|z_t, x) ‖ p(z_s|z_t)), example by example."""
    num_steps, gamma = 8, SCHEDULES["cosine"]
    x, eps = data(num_steps * 3)
    i = 1 + jnp.arange(num_steps * 3) % num_steps
    losses = bounds.discrete_diffusion_loss(denoise, gamma, x, i, eps, num_steps)
    gamma_s, gamma_t = (oracle.f64(gamma(j / num_steps))[:, None] for j in (i - 1, i))
    z_t = oracle.alpha(gamma_t) * oracle.f64(x) + oracle.sigma(gamma_t) * oracle.f64(eps)
    x_hat = (z_t - oracle.sigma(gamma_t) * oracle.gaussian_eps(z_t, gamma_t, MEAN, STD)) / oracle.alpha(gamma_t)
    mean, var = oracle.posterior(z_t, x, gamma_s, gamma_t)
    mean_hat, _ = oracle.posterior(z_t, x_hat, gamma_s, gamma_t)
    kl = np.sum((mean - mean_hat) ** 2 / (2 * var), axis=1)
    # ε − ε̂ cancels where ε̂ is good (errors down to 0.01): float32 leaves 1e-4 of its square.
    np.testing.assert_allclose(losses, num_steps * kl, rtol=1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_discrete_loss_falls_to_the_continuous_one(name):
    """For the float64 sum that the previous tests hold the code to: no other limit would do."""
    continuous = DIMS * (mutual_information(GAMMA_0) - mutual_information(GAMMA_1))
    sums = [discrete_loss(name, num_steps) for num_steps in (1, 2, 4, 8, 16, 100, 400, 1600)]
    assert np.all(np.diff(sums) < 0)
    assert continuous < sums[-1] < 1.02 * continuous


def test_diffusion_and_prior_are_the_divergence_of_the_paths():
    """E[prior + diffusion] = I(x; z₀) + KL(q(z₁) ‖ N(0, 1)) for the exact denoiser.

    The left side is E_x KL(q(z|x) ‖ p(z)) over whole paths z. It is also I(x; path) + KL(q(path) ‖ p(path)); x acts on
    the path through z₀ alone, and the exact reverse process starts from N(0, 1) where q starts from q(z₁).
    """
    x, eps = data()
    t = jax.random.uniform(jax.random.key(3), (NUM,))
    losses = bounds.continuous_diffusion_loss(denoise, SCHEDULES["linear"], x, t, eps) + bounds.prior_loss(x, GAMMA_1)
    mean, var = oracle.alpha(GAMMA_1) * MEAN, oracle.alpha(GAMMA_1) ** 2 * STD**2 + oracle.sigma(GAMMA_1) ** 2
    kl = 0.5 * (mean**2 + var - 1 - np.log(var))
    oracle.assert_mean(losses, DIMS * (mutual_information(GAMMA_0) + kl))


def test_a_worse_denoiser_costs_more():
    """The exact denoiser is the least of its neighbours on the same draws, by many standard errors."""
    x, eps = data()
    t = jax.random.uniform(jax.random.key(4), (NUM,))
    loss = partial(bounds.continuous_diffusion_loss, gamma=SCHEDULES["linear"], x=x, t=t, eps=eps)
    best = loss(denoise)
    for worse in (lambda z, g: 0.9 * denoise(z, g), lambda z, g: denoise(z, g) + 0.1, lambda z, g: denoise(z, g + 0.5)):
        difference = np.asarray(loss(worse) - best)
        assert difference.mean() > 4 * difference.std() / np.sqrt(NUM)


def test_losses_sum_over_data_dimensions():
    x, eps = data(6)
    t = jnp.linspace(0.1, 0.9, 6)
    flat = bounds.continuous_diffusion_loss(denoise, SCHEDULES["linear"], x, t, eps)
    image = (6, 1, DIMS, 1)
    np.testing.assert_allclose(
        bounds.continuous_diffusion_loss(denoise, SCHEDULES["linear"], x.reshape(image), t, eps.reshape(image)),
        flat,
        rtol=4 * EPS,
    )
    np.testing.assert_allclose(bounds.prior_loss(x.reshape(image), 1.0), bounds.prior_loss(x, 1.0), rtol=4 * EPS)


def test_bits_per_dim():
    # A uniform code over 256 values costs log 256 nats a dimension: 8 bits.
    np.testing.assert_allclose(bounds.bits_per_dim(3072 * np.log(256), 3072), 8, rtol=2 * EPS)
    np.testing.assert_allclose(bounds.bits_per_dim(jnp.array([0.0, np.log(2)]), 1), [0, 1], rtol=2 * EPS)
