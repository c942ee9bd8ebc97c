"""Real numbers as data: their likelihood, and a whole bound, against closed forms of Gaussian data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy import stats
from scipy.special import expit

from vdm import bounds, decodings, gaussian, likelihoods, oracles, probability_flow, schedules
from vdm.keys import image_keys
from vdm.likelihoods import REAL

MEAN, STD = np.array([0.3, -0.2]), np.array([0.1, 0.5])
DATA = oracles.gaussian(MEAN, STD**2)
GAMMA_0, GAMMA_1 = -4.0, 3.0


def latents(num: int = 50, gamma: float = -3.0) -> tuple[jax.Array, jax.Array]:
    """(x, z₀ of another x)."""
    x, other, eps = jax.random.normal(jax.random.key(0), (3, num, 2))
    return x, gaussian.diffuse(other, eps, gamma)


@pytest.mark.parametrize("gamma", [-12.0, -3.0, 2.0])
def test_the_density_is_normal_around_z_over_alpha(gamma: float) -> None:
    x, z_0 = latents(gamma=gamma)
    found = likelihoods.log_prob(x, z_0, jnp.float32(gamma), REAL)
    center, scale = oracle.f64(z_0) / oracle.alpha(gamma), np.exp(gamma / 2)
    exact = stats.norm(center, scale).logpdf(oracle.f64(x)).sum(axis=1)
    # A few roundings of x − z₀/α₀, in units of the scale.
    np.testing.assert_allclose(found, exact, rtol=1e-4 if gamma < -10 else 1e-5)
    by_image = likelihoods.log_prob(x, z_0, jnp.full(len(x), gamma), REAL)
    np.testing.assert_allclose(by_image, found, rtol=1e-6)


def test_it_is_q_of_z_given_x_as_a_function_of_x() -> None:
    x, z_0 = latents()
    log_q = stats.norm(oracle.alpha(-3.0) * oracle.f64(x), oracle.sigma(-3.0)).logpdf(oracle.f64(z_0)).sum(axis=1)
    apart = oracle.f64(likelihoods.log_prob(x, z_0, jnp.float32(-3.0), REAL)) - log_q
    np.testing.assert_allclose(apart, 2 * np.log(oracle.alpha(-3.0)), rtol=0, atol=1e-4 * np.abs(log_q).max())


def test_codes_and_decodings() -> None:
    x, z_0 = latents()
    gamma, keys = jnp.float32(-3.0), image_keys(jax.random.key(1), len(x))
    np.testing.assert_array_equal(likelihoods.encode(x, REAL), x)
    np.testing.assert_array_equal(likelihoods.decode(x, REAL), x)
    center = z_0 / gaussian.alpha(gamma)
    for decode in (decodings.mode(), decodings.mean()):
        np.testing.assert_array_equal(decode(keys, z_0, gamma, REAL), center)
    drawn = decodings.draw()(keys, z_0, gamma, REAL)
    assert drawn.dtype == jnp.float32
    u = oracle.f64(drawn - center).ravel() / np.exp(-1.5)
    oracle.assert_mean(u, 0.0)
    oracle.assert_mean(u**2, 1.0)


def test_what_is_of_integers_alone() -> None:
    x, z_0 = latents()
    for function in (
        lambda: likelihoods.logits(z_0, -3.0, REAL),
        lambda: probability_flow.uniform_bound(DATA.denoise, jnp.zeros((50, 2), jnp.int32), x, -3.0, 3.0, REAL),
    ):
        with pytest.raises(ValueError, match="levels=0: must be 2 or more"):
            function()


def entropy() -> float:
    return float(np.sum(0.5 * np.log(2 * np.pi * np.e * STD**2)))


def decoder_gap(gamma_0: float) -> float:
    """E KL(q(x|z₀) ‖ p(x|z₀)) of the exact q: ½ log(1 + e^{γ₀}/s²) of each value."""
    return float(np.sum(0.5 * np.log1p(np.exp(gamma_0) / STD**2)))


def prior_gap(gamma_1: float) -> float:
    """KL(q(z₁) ‖ N(0, I))."""
    var, mean = expit(-gamma_1) * STD**2 + expit(gamma_1), np.sqrt(expit(-gamma_1)) * MEAN
    return float(np.sum(0.5 * (var + mean**2 - 1 - np.log(var))))


def exact_diffusion(num_steps: int | None, gamma_0: float = GAMMA_0, gamma_1: float = GAMMA_1) -> float:
    """½ Σ expm1(γ_i − γ_{i−1}) E‖ε − E[ε|z_i]‖², with the variance α² s²/(α² s² + σ²) of ε given z; or its limit."""
    gammas = np.linspace(gamma_0, gamma_1, (num_steps or 100_000) + 1)
    left = 1 / (1 + np.exp(gammas[1:, None]) / STD**2)
    return float(0.5 * np.sum(np.expm1(np.diff(gammas))[:, None] * left))


def exact_bound(num_steps: int | None) -> float:
    reconstruction = 0.5 * 2 * (1 + GAMMA_0 + np.log(2 * np.pi))
    of_signal = expit(-GAMMA_1) * (STD**2 + MEAN**2 - 1) + np.logaddexp(0, -GAMMA_1)
    return reconstruction + exact_diffusion(num_steps) + 0.5 * float(np.sum(of_signal))


@functools.partial(jax.jit, static_argnames="num_steps")
def drawn_bounds(key: jax.Array, num_steps: int | None) -> jax.Array:
    """The package's bound on the nats of 2¹⁶ draws of the data, with the exact denoiser."""
    keys = jax.random.split(key, 4)
    num = 1 << 16
    x, t = DATA.sample(keys[0], num), jnp.asarray((np.arange(num) + 0.5) / num, jnp.float32)
    eps, eps_0 = jax.random.normal(keys[1], x.shape), jax.random.normal(keys[2], x.shape)
    gamma = functools.partial(schedules.linear(GAMMA_0, GAMMA_1).gamma, {})
    levels = bounds.noise_levels(gamma, jax.random.permutation(keys[3], t), num_steps)
    return (
        bounds.reconstruction_loss(x, gamma(jnp.float32(0)), eps_0, REAL)
        + bounds.prior_loss(x, gamma(jnp.float32(1)))
        + bounds.diffusion_loss_at(DATA.denoise, *levels, x, eps)
    )


@pytest.mark.parametrize("num_steps", [None, 5])
def test_the_bound_of_gaussian_data_is_what_it_must_be(num_steps: int | None) -> None:
    """And above the entropy by far more than the error."""
    nats = oracle.f64(drawn_bounds(jax.random.key(2), num_steps))
    oracle.assert_mean(nats, exact_bound(num_steps))
    assert exact_bound(num_steps) - entropy() > 20 * nats.std() / np.sqrt(len(nats))


def test_in_continuous_time_it_is_the_entropy_and_the_gaps_of_both_ends() -> None:
    # Of 10⁵ steps, a rectangle rule.
    assert abs(exact_bound(None) - entropy() - decoder_gap(GAMMA_0) - prior_gap(GAMMA_1)) < 1e-3
    assert exact_bound(5) > exact_bound(20) > exact_bound(None)
    # Both gaps close.
    assert decoder_gap(-20.0) + prior_gap(20.0) < 1e-6 < decoder_gap(GAMMA_0)


def test_the_bound_by_the_flow_is_one_on_the_density() -> None:
    """Of data of a density, with as many draws as here, it is −log p(x) plus the gap of the decoder alone."""
    x = DATA.sample(jax.random.key(3), 64)
    eps_0 = jax.random.normal(jax.random.key(4), x.shape)
    found = probability_flow.gaussian_bound(DATA.denoise, x, eps_0, jnp.float32(-9.0), jnp.float32(12.0), REAL)
    excess = oracle.f64(found.total) + oracle.f64(DATA.log_prob(x))
    oracle.assert_mean(excess, decoder_gap(-9.0))
