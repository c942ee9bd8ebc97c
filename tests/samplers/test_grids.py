"""Grids against their definitions in float64, and sampling from pure noise where α = 0."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import gaussian, parts, predictions, samplers, schedules
from vdm.samplers import grids

ENDS = [(-13.3, 5.0), (-7.5, 20.0), (-20.0, 3.0)]


def by_definition(name: str, gamma_0: float, gamma_1: float, num_steps: int) -> np.ndarray:
    """Even steps of what the grid is uniform in, put back into γ, in float64."""
    forward, back = {
        "uniform": (lambda g: g, lambda f: f),
        "karras": (lambda g: np.exp(g / 2) ** (1 / 7), lambda f: 2 * np.log(f**7)),
        "cosine": (lambda g: np.arctan(np.exp(g / 2)), lambda f: 2 * np.log(np.tan(f))),
    }[name]
    # The end points as float32 has them.
    ends = [forward(oracle.f64(np.float32(gamma))) for gamma in (gamma_1, gamma_0)]
    return back(np.linspace(*ends, num_steps + 1))


def between(name, gamma_0, gamma_1, num_steps):
    """The grid of this name from γ(1) to γ(0): of a schedule it sees the ends alone."""
    return parts.make("grid", name).gammas(lambda t: jnp.where(t == 0, gamma_0, gamma_1), num_steps)


@pytest.mark.parametrize("name", ["uniform", "karras", "cosine"])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("num_steps", [1, 2, 17, 250])
def test_grids_are_uniform_in_what_they_say(name, ends, num_steps):
    gammas = jax.jit(lambda low, high: between(name, low, high, num_steps))(*map(jnp.float32, ends))
    assert gammas.dtype == jnp.float32
    assert (gammas[0], gammas[-1]) == (np.float32(ends[1]), np.float32(ends[0]))
    assert (np.diff(gammas) < 0).all()
    # A few roundings of numbers up to 20; karras takes the log of a number times 14.
    np.testing.assert_allclose(gammas, by_definition(name, *ends, num_steps), atol=4e-5)


@pytest.mark.parametrize("name", parts.names("grid"))
def test_steps_below_one_are_refused(name):
    grid = parts.make("grid", name)
    with pytest.raises(ValueError, match="num_steps=0: must be a whole number, 1 or more"):
        grid.gammas(lambda t: t, 0)
    if grid.own_steps:
        with pytest.raises(ValueError, match="num_steps=11: must be from 1 to 10"):
            grid.gammas(lambda t: t, 11, 10)


@pytest.mark.parametrize("rho", [0.0, -1.0, np.inf, np.nan])
def test_roots_that_make_no_grid_are_refused(rho):
    with pytest.raises(ValueError, match=f"rho={rho}: must be above 0 and finite"):
        grids.karras(rho)


def test_karras_is_uniform_in_the_root_of_its_rho():
    gammas = oracle.f64(grids.karras(rho=3.0).gammas(partial(schedules.linear(-9.0, 5.0).gamma, {}), 17))
    np.testing.assert_allclose(np.diff(np.exp(gammas / 6)), -(np.exp(5 / 6) - np.exp(-9 / 6)) / 17, rtol=2e-5)


def test_those_in_time_are_of_the_schedule_and_of_a_models_own_steps():
    gamma = partial(schedules.cosine(-9.0, 5.0).gamma, {})
    for name, power in (("schedule", 1), ("quadratic", 2)):
        grid = parts.make("grid", name)
        np.testing.assert_array_equal(grid.gammas(gamma, 7), grids.grid(gamma, 7, power))
        np.testing.assert_array_equal(grid.gammas(gamma, 7, 12), grids.subsequence(gamma, 7, 12, power))
    for name in ("uniform", "karras", "cosine"):
        grid = parts.make("grid", name)
        assert not grid.own_steps
        np.testing.assert_array_equal(grid.gammas(gamma, 7, 3), grid.gammas(gamma, 7))


@pytest.mark.parametrize(
    ("num_steps", "model_steps"), [(1, 1), (1, 10), (3, 10), (4, 10), (5, 10), (7, 9), (250, 1000)]
)
def test_a_subsequence_has_the_nearest_of_the_models_own_levels(num_steps, model_steps):
    gamma = partial(schedules.cosine(-9.0, 5.0).gamma, {})
    own = np.asarray(grids.grid(gamma, model_steps))[::-1]
    gammas = np.asarray(grids.subsequence(gamma, num_steps, model_steps))
    assert gammas.shape == (num_steps + 1,)
    # Levels that the model has seen, but for their last bits, its two ends among them.
    indices = [int(np.argmin(np.abs(own - level))) for level in gammas]
    np.testing.assert_allclose(gammas, own[indices], rtol=1e-6, atol=1e-6)
    assert (indices[0], indices[-1]) == (model_steps, 0)
    assert np.all(np.diff(indices) < 0)
    even = np.linspace(model_steps, 0, num_steps + 1)
    assert np.abs(indices - even).max() <= 0.5 + 1e-9
    if model_steps % num_steps == 0:
        np.testing.assert_array_equal(gammas, grids.grid(gamma, num_steps))


def test_quadratic_is_the_schedule_at_squared_times():
    gamma_0, gamma_1 = -9.0, 5.0
    for num_steps in (1, 2, 17, 250):
        gammas = grids.quadratic().gammas(lambda t: jnp.float32(gamma_0) * (1 - t) + gamma_1 * t, num_steps)
        assert (gammas[0], gammas[-1]) == (gamma_1, gamma_0)
        t = np.linspace(1, 0, num_steps + 1) ** 2
        # Roundings of t, 1 − t and their products with numbers up to 9.
        np.testing.assert_allclose(gammas, gamma_0 + (gamma_1 - gamma_0) * t, rtol=0, atol=4e-6)
    with pytest.raises(ValueError, match="num_steps=0: must be a whole number, 1 or more"):
        grids.quadratic().gammas(lambda t: t, 0)


@pytest.mark.parametrize(("model_steps", "indices"), [
    (1000, [1000, 810, 640, 490, 360, 250, 160, 90, 40, 10, 0]),
    (10, [10, 4, 1, 0]),  # 4.44 and 1.11
    (10, [10, 6, 4, 2, 1, 0]),  # 6.4, 3.6, 1.6 and 0.4, whose nearest is taken
    (8, [8, 5, 2, 1, 0]),  # 4.5, 2 and 0.5: the upper of two
    (7, [7, 5, 4, 3, 2, 1, 0]),  # 4.86, 3.11, 1.75, 0.78 and 0.19
    (10, list(range(10, -1, -1))),
    (1, [1, 0]),
])  # fmt: skip
def test_quadratic_takes_distinct_steps_of_a_discrete_model(model_steps, indices):
    gammas = grids.subsequence(lambda t: t, len(indices) - 1, model_steps, power=2)
    np.testing.assert_array_equal(gammas, np.float32(indices) / model_steps)


def test_every_quadratic_subsequence_goes_down_from_end_to_end():
    for model_steps in (*range(1, 25), 1_000_000):
        for num_steps in range(1, min(model_steps, 24) + 1):
            indices = np.rint(model_steps * oracle.f64(grids.subsequence(lambda t: t, num_steps, model_steps, 2)))
            assert (indices[0], indices[-1]) == (model_steps, 0)
            assert np.all(np.diff(indices) < 0)
            # Those that are not the nearest are as low as they can be.
            nearest = np.floor(model_steps * (np.arange(num_steps, -1, -1) / num_steps) ** 2 + 0.5)
            moved = indices != nearest
            np.testing.assert_array_equal(indices[moved], np.arange(num_steps, -1, -1)[moved])


def test_powers_below_one_are_refused():
    for make in (lambda: grids.grid(lambda t: t, 3, power=0), lambda: grids.subsequence(lambda t: t, 3, 9, power=0)):
        with pytest.raises(ValueError, match="power=0: must be a whole number, 1 or more"):
            make()


@pytest.mark.parametrize("num_steps", [0, -1, 11])
def test_a_subsequence_of_more_steps_than_there_are_is_refused(num_steps):
    with pytest.raises(ValueError, match=f"num_steps={num_steps}: must be (from 1 to 10|a whole number, 1 or more)"):
        grids.subsequence(lambda t: t, num_steps, 10)


def gaussian_x(z, gamma, mean, std):
    """E[x|z] of Gaussian data, also at α = 0."""
    gain = gaussian.alpha(gamma) * std**2 / (gaussian.alpha(gamma) ** 2 * std**2 + jax.nn.sigmoid(gamma))
    return mean + gain * (z - gaussian.alpha(gamma) * mean)


@pytest.mark.parametrize("kind", predictions.KNOW_X_OF_NOISE)
def test_zero_terminal_snr_has_no_error_of_the_start(kind):
    """From SNR 0 the first step lands on N(α_s E[x], σ_s²), and the variance comes right as the steps do.

    From a finite γ(1), z₁ ~ N(0, 1) misses the mean α₁ E[x]: with γ(1) = 1 by a half, and what is left of it at the end
    is the more the fewer the steps.
    """
    mean, std, num = 0.9, 0.1, 20_000

    def network(z, gamma):
        gamma = gaussian.expand(gamma, z)
        x = gaussian_x(gaussian_input(z, gamma), gamma, mean, std)
        eps = jnp.where(
            jnp.isinf(gamma),
            gaussian_input(z, gamma),
            (gaussian_input(z, gamma) - gaussian.alpha(gamma) * x) / gaussian.sigma(gamma),
        )
        return predictions.compose(x, eps, gamma.reshape(()), kind)

    def gaussian_input(z, gamma):
        # A network of F is given z/r.
        if kind != "F":
            return z
        return z * jnp.sqrt(jax.nn.sigmoid(gamma) + predictions.SIGMA_DATA**2 * jax.nn.sigmoid(-gamma))

    denoise = predictions.denoiser(network, kind)
    gammas = between("uniform", -9.0, 1.0, 100)
    sample = jax.jit(partial(samplers.sample, denoise=denoise, sampler=samplers.ancestral(), shape=(num, 1)))
    z_0 = sample(jax.random.key(0), gammas=grids.zero_terminal_snr(gammas))
    assert np.isfinite(z_0).all()
    oracle.assert_mean(z_0, mean * oracle.alpha(-9.0))
    finite = sample(jax.random.key(0), gammas=gammas)
    assert abs(finite.mean() - mean) > abs(z_0.mean() - mean)

    first = sample(jax.random.key(1), gammas=jnp.asarray([jnp.inf, -0.5]))
    oracle.assert_mean(first, oracle.alpha(-0.5) * mean)
    oracle.assert_mean((first - oracle.alpha(-0.5) * mean) ** 2, oracle.sigma(-0.5) ** 2)


def test_eps_alone_does_not_tell_x_at_zero_snr():
    """What the config refuses: it is not finite, and not silently wrong."""
    x_hat, eps_hat = predictions.both(lambda z, gamma: 0.5 * z)(jnp.ones((2, 3)), jnp.inf)
    assert not np.isfinite(x_hat).any()
    assert (eps_hat == 0.5).all()


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("num_steps", [2.5, True, "3", -1])
def test_steps_that_are_no_number_are_refused(num_steps):
    for name in parts.names("grid"):
        with pytest.raises(ValueError, match=rf"num_steps={num_steps!r}: must be a whole number, 1 or more"):
            parts.make("grid", name).gammas(lambda t: t, num_steps)
    with pytest.raises(ValueError, match=rf"model_steps={num_steps!r}: must be a whole number"):
        grids.subsequence(lambda t: t, 1, num_steps)


@pytest.mark.usefixtures("unannotated")
def test_a_schedule_is_no_function_of_time():
    """Its `gamma` with its parameters is."""
    for name in parts.names("grid"):
        with pytest.raises(ValueError, match=r"gamma=Schedule.*: must be a function t -> γ\(t\)"):
            parts.make("grid", name).gammas(schedules.linear(-5.0, 5.0), 3)
    with pytest.raises(ValueError, match="rho='7': must be above 0 and finite"):
        grids.karras("7")
