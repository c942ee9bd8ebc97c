"""DPM-Solver++ on Gaussian data, by the paper's formulas and, at order 3, by quadrature; its relatives at order 1."""

import affine
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import predictions, samplers


def log_ratio(gamma):
    """The paper's λ = log α/σ."""
    return np.log(oracle.alpha(gamma) / oracle.sigma(gamma))


def formula(order, stochastic=False):
    def step(z, predict, memory, gamma_t, gamma_s, noise):
        """Lu et al. Alg. 2, and SDE-DPM-Solver++(2M) of their appendix; `memory` holds (λ, x̂), the newest first."""
        lam, h = log_ratio(gamma_t), log_ratio(gamma_s) - log_ratio(gamma_t)
        x_hat, _ = predict(z, gamma_t)
        memory = [(lam, x_hat), *memory][:order]
        alpha, ratio = oracle.alpha(gamma_s), oracle.sigma(gamma_s) / oracle.sigma(gamma_t)
        rate = 2 if stochastic else 1
        if order == len(memory) == 2:
            r = (lam - memory[1][0]) / h
            d = (1 + 1 / (2 * r)) * x_hat - 1 / (2 * r) * memory[1][1]
            drift = (1 - np.exp(-rate * h)) * d
        else:
            drift = affine.integral(rate * h, [rate * (old - lam) for old, _ in memory], [x for _, x in memory])
        if not stochastic:
            return ratio * z + alpha * drift, memory
        std = oracle.sigma(gamma_s) * np.sqrt(1 - np.exp(-2 * h))
        return ratio * np.exp(-h) * z + alpha * drift + std * noise, memory

    return step


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("stochastic", [False, True])
def test_moments_after_every_step(order, stochastic):
    affine.check(samplers.dpm_solver_pp(order, stochastic), formula(order, stochastic), [])


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("stochastic", [False, True])
def test_the_marginal_is_exact_in_the_limit(order, stochastic):
    affine.assert_converges(formula(order, stochastic), [])


@pytest.mark.parametrize(("stochastic", "same"), [(False, samplers.ddim()), (True, samplers.ancestral())])
def test_order_1_is_ddim_and_ancestral(stochastic, same):
    keys, z = samplers.initial_latents(jax.random.key(0), (10, 2))
    sampler = samplers.dpm_solver_pp(1, stochastic)
    for gamma_t, gamma_s in ((4.0, 2.0), (0.3, -9.0)):
        args = jnp.float32(gamma_t), jnp.float32(gamma_s)
        result, expected = (
            each.step(keys, predictions.both(affine.denoise), z, each.init(z), *args).z for each in (sampler, same)
        )
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("num_steps", [1000, 8000])
@pytest.mark.parametrize("sampler", [samplers.dpm_solver_pp(3), samplers.unipc(3)])
def test_short_steps_lose_no_accuracy(sampler, num_steps):
    """Differences of neighbouring x̂ in float32: the exact solution is z₁ times the ratio of standard deviations."""
    gammas = jnp.linspace(10.0, -6.0, num_steps + 1)
    _, z_1 = samplers.initial_latents(jax.random.key(0), (50, 1))
    run = jax.jit(lambda gammas, z_1: samplers.sample_from(jax.random.key(0), affine.denoise, sampler, gammas, z_1))
    start, end = (
        (oracle.alpha(gamma) * affine.MEAN, np.hypot(oracle.alpha(gamma) * affine.STD, oracle.sigma(gamma)))
        for gamma in (10.0, -6.0)
    )
    (mean_1, std_1), (mean_0, std_0) = start, end
    exact = mean_0 + std_0 * (oracle.f64(z_1) - mean_1) / std_1
    error = np.abs(run(gammas, z_1) - exact).max()
    # A rounding of z a step, all of one sign.
    assert error < num_steps * oracle.EPS


@pytest.mark.parametrize("order", [0, 4])
def test_another_order_is_refused(order):
    with pytest.raises(ValueError, match=f"order={order}: must be one of 1, 2, 3"):
        samplers.dpm_solver_pp(order)
