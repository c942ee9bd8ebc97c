"""Convergence to the probability-flow ODE of a mixture, in float64, and of the marginal for samplers that draw."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from vdm import oracles, parts, samplers

WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-0.6, 0.5]), np.array([0.2, 0.3])
# From γ = 12, where x̂ hardly moves: what multistep samplers lose at their start, O(h²) α₁², is not seen.
GAMMA_0, GAMMA_1 = -5.0, 12.0
MIXTURE = oracles.mixture(WEIGHTS, MEANS[:, None], STDS)
STARTS = np.array([-1.7, -0.6, -0.1, 0.4, 1.3])


def cdf(z, gamma):
    std = np.hypot(oracle.alpha(gamma) * STDS, oracle.sigma(gamma))
    return np.sum(WEIGHTS * norm.cdf((np.asarray(z)[..., None] - oracle.alpha(gamma) * MEANS) / std), axis=-1)


def flow(z_1):
    """The ODE's z₀: in one dimension it keeps the quantile."""
    return np.array([brentq(lambda z, q=q: cdf(z, GAMMA_0) - q, -5, 5, xtol=1e-14) for q in cdf(z_1, GAMMA_1)])


def error(run, num_steps):
    # Uneven steps, in ratios that stay as they are refined.
    t = np.linspace(0, 1, num_steps + 1)
    gammas = GAMMA_1 + (GAMMA_0 - GAMMA_1) * (t + 0.1 * np.sin(2 * np.pi * t))
    return np.abs(np.asarray(run(gammas, STARTS[:, None]))[:, 0] - flow(STARTS)).max()


@pytest.mark.parametrize(("name", "order"), [
    ("ddim", 1), ("euler", 1), ("heun", 2), ("dpm_solver_pp(1)", 1), ("dpm_solver_pp(2)", 2), ("dpm_solver_pp(3)", 3),
    ("unipc(1)", 2), ("unipc(2)", 3), ("unipc(3)", 4),
])  # fmt: skip
def test_error_falls_at_the_samplers_order(name, order):
    with jax.enable_x64(True):
        sampler = parts.make("sampler", name)
        run = jax.jit(partial(samplers.sample_from, jax.random.key(0), MIXTURE.denoise, sampler))
        coarse, fine = (error(run, num_steps) for num_steps in (256, 512))
    # h = 17/1024 in log α/σ.
    assert fine < 5 * (17 / 1024) ** order
    assert abs(np.log2(coarse / fine) - order) < 0.1


STOCHASTIC = ["ancestral", "ddpm(large)", "ddim(0.5)", "euler(0.05)", "heun(0.05)", "dpm_solver_pp(2, True)"]


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_marginal_of_samplers_that_draw(name):
    """E sin, E cos of 2 z₀ at 300 steps: they see mean, spread and both modes."""
    num = 10_000
    gammas = jnp.linspace(9.0, GAMMA_0, 301)
    run = jax.jit(
        partial(samplers.sample, denoise=MIXTURE.denoise, sampler=parts.make("sampler", name), shape=(num, 1))
    )
    z_0 = oracle.f64(run(jax.random.key(0), gammas=gammas))[:, 0]
    # E e^{2iz} of a Gaussian is e^{2iμ − 2σ²}.
    mean, var = oracle.alpha(GAMMA_0) * MEANS, oracle.alpha(GAMMA_0) ** 2 * STDS**2 + oracle.sigma(GAMMA_0) ** 2
    exact = np.sum(WEIGHTS * np.exp(2j * mean - 2 * var))
    for values, value in ((np.cos(2 * z_0), exact.real), (np.sin(2 * z_0), exact.imag)):
        stderr = values.std() / np.sqrt(num)
        assert abs(values.mean() - value) < 4 * stderr
