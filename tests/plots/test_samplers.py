"""Paths in one dimension against the closed form of their marginals."""

import numpy as np
import oracle
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from vdm.plots import samplers

ENDS = (-13.3, 5.0)
WEIGHTS, MODES = np.array(samplers.WEIGHTS), np.array(samplers.MODES)
NUM = 2000


def components(gamma):
    return oracle.alpha(gamma) * MODES, np.hypot(oracle.alpha(gamma) * samplers.STD, oracle.sigma(gamma))


@pytest.fixture(scope="module")
def paths() -> samplers.Paths:
    return samplers.paths(*ENDS, num=NUM)


def test_the_grid_is_that_of_the_cosine_schedule(paths):
    theta = np.arctan(np.exp(np.array(ENDS) / 2))
    expected = 2 * np.log(np.tan(theta[0] + (theta[1] - theta[0]) * paths.t))
    np.testing.assert_allclose(paths.gamma, expected, rtol=1e-5, atol=1e-5)
    assert (paths.t[0], paths.t[-1]) == (0, 1)


@pytest.mark.parametrize("index", [0, 20, 50, -1])
def test_forward_paths_have_the_marginals(paths, index):
    mean, std = components(paths.gamma[index])
    z = oracle.f64(paths.forward[index])
    oracle.assert_mean(z, WEIGHTS @ mean)
    oracle.assert_mean(z**2, WEIGHTS @ (mean**2 + std**2))
    oracle.assert_mean(np.cos(5 * z), WEIGHTS @ (np.cos(5 * mean) * np.exp(-12.5 * std**2)))


def test_forward_steps_are_draws_of_the_transition(paths):
    """z_t − α_{t|s} z_s has the variance σ²_{t|s} and knows nothing of z_s."""
    alpha, var = oracle.transition(paths.gamma[:-1], paths.gamma[1:])
    noise = (paths.forward[1:] - alpha[:, None] * paths.forward[:-1]) / np.sqrt(var)[:, None]
    oracle.assert_mean(np.ravel(noise**2), 1)
    oracle.assert_mean(np.mean(noise * paths.forward[:-1], axis=0), 0)


def test_ddpm_goes_from_one_point_to_the_posterior_of_both_modes(paths):
    start = paths.ddpm[-1, 0]
    assert np.all(paths.ddpm[-1] == start)
    mean, std = components(paths.gamma[-1])
    posterior = WEIGHTS * norm.pdf(start, mean, std)
    posterior /= posterior.sum()
    # Steps of a finite grid blur it a little.
    share = np.mean(paths.ddpm[0] < samplers.BETWEEN)
    assert abs(share - posterior[0]) < 4 * np.sqrt(0.25 / NUM) + 0.03
    assert abs(np.std(paths.ddpm[0][paths.ddpm[0] < samplers.BETWEEN]) / samplers.STD - 1) < 0.15


def test_ddim_keeps_the_quantile_to_its_order(paths):
    """In one dimension the exact ODE does; Euler's rule errs by O(1/T)."""

    def exact(z_1):
        (mean_1, std_1), (mean_0, std_0) = components(paths.gamma[-1]), components(paths.gamma[0])
        q = WEIGHTS @ norm.cdf((z_1 - mean_1) / std_1)
        return brentq(lambda z: WEIGHTS @ norm.cdf((z - mean_0) / std_0) - q, -9, 9)

    several = slice(NUM // 20, None, NUM // 10)
    np.testing.assert_allclose(paths.ddim[0, several], [exact(z) for z in paths.ddim[-1, several]], atol=0.06)
    np.testing.assert_allclose(paths.ddim[-1], norm.ppf((np.arange(NUM) + 0.5) / NUM), atol=1e-3)
    assert paths.ddim_of_one[-1] == paths.ddpm[-1, 0]
    np.testing.assert_allclose(paths.ddim_of_one[0], exact(paths.ddim_of_one[-1]), atol=0.06)


def test_the_density_is_the_mixtures(paths):
    z = np.linspace(-6, 6, 2001)
    gamma = np.array([-13.3, -2.0, 0.5, 5.0])
    found = samplers.density(gamma, z)
    for row, g in zip(found, gamma, strict=True):
        mean, std = components(g)
        np.testing.assert_allclose(row, norm.pdf(z[:, None], mean, std) @ WEIGHTS, rtol=1e-3, atol=1e-4)


def test_ends_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"gamma_min=5\.0: must be below gamma_max=-3\.0"):
        samplers.paths(5.0, -3.0)
