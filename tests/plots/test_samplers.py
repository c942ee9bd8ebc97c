"""Paths in one dimension against the closed form of their marginals; quality as drawn."""

import numpy as np
import oracle
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from plots.picture import assert_is_picture
from vdm.comparisons.sampler_tables import SamplerOutcome
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


def outcome(sampler, calls, mmd, stderr=0.0005):
    return SamplerOutcome(sampler, calls, calls, mmd, mmd + stderr * np.array([-1.0, 0.0, 1.0]) / np.sqrt(4 / 3))


@pytest.mark.filterwarnings("error")
def test_quality_is_drawn_by_calls(tmp_path, drawn):
    reference = outcome("ancestral", 1000, 0.003)
    found = [outcome("heun@karras", 10, 0.02), outcome("heun@karras", 5, 0.05), outcome("heun", 5, -0.001), reference]
    (axes,) = drawn(samplers.quality, tmp_path, found, reference, 0.002)
    assert_is_picture(tmp_path / "plot.png")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = {container.get_label(): container.lines[0] for container in axes.containers}
    assert list(lines) == ["heun@karras", "heun", "ancestral"]
    np.testing.assert_array_equal(lines["heun@karras"].get_xydata(), [[5, 0.05], [10, 0.02]])
    assert lines["heun@karras"].get_color() == lines["heun"].get_color() != lines["ancestral"].get_color()
    assert lines["heun@karras"].get_linestyle() != lines["heun"].get_linestyle()
    # Below 0 there is no logarithm: a triangle.
    assert np.isnan(lines["heun"].get_ydata()).all()
    triangles = [line for line in axes.lines if line.get_marker() == "v" and line.get_linestyle() == "None"]
    assert [list(line.get_xdata()) for line in triangles] == [[5]]
    assert any(np.all(np.asarray(line.get_ydata()) == 0.003) for line in axes.lines)
    (band,) = axes.patches
    assert (band.get_y(), band.get_height()) == (0, 0.002)


@pytest.mark.filterwarnings("error")
def test_one_outcome_is_enough(tmp_path, drawn):
    drawn(samplers.quality, tmp_path, [outcome("heun", 5, 0.1)], None, 0.001)
    drawn(samplers.quality, tmp_path, [outcome("heun", 5, -0.1)], None, 0.001)
