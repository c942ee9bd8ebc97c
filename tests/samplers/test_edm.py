"""Euler's and Heun's rules with and without churn, on Gaussian data in EDM's coordinates, and their relatives."""

import affine
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import predictions, samplers

# In the second case only the noise levels s from 0.1 to 3 are churned: of the grid's γ from −4.6 to 2.2.
OPTIONS = [{}, {"churn": 0.4, "s_min": 0.1, "s_max": 3.1, "s_noise": 1.1}]


def formula(second_order, churn=0.0, s_min=0.0, s_max=np.inf, s_noise=1.0):
    def step(z, predict, memory, gamma_t, gamma_s, noise):
        """Karras et al. Alg. 2, in y = z/α and s = σ/α."""

        def slope(y, s):
            return (y - predict(y / np.sqrt(1 + s**2), 2 * np.log(s))[0]) / s

        s, end = np.exp(gamma_t / 2), np.exp(gamma_s / 2)
        y = z / oracle.alpha(gamma_t)
        if s_min <= s <= s_max:
            s_hat = (1 + churn) * s
            y = y + s_noise * np.sqrt(s_hat**2 - s**2) * noise
            s = s_hat
        d = slope(y, s)
        y_s = y + (end - s) * d
        if second_order:
            y_s = y + (end - s) * (d + slope(y_s, end)) / 2
        return y_s * oracle.alpha(gamma_s), memory

    return step


@pytest.mark.parametrize("name", ["euler", "heun"])
@pytest.mark.parametrize("options", OPTIONS)
def test_moments_after_every_step(name, options):
    affine.check(getattr(samplers, name)(**options), formula(name == "heun", **options))


@pytest.mark.parametrize("second_order", [False, True])
def test_the_marginal_is_exact_in_the_limit(second_order):
    affine.assert_converges(formula(second_order))
    # Churn that shrinks as the steps do: as much noise in all, however many they are.
    affine.assert_converges(lambda *args: formula(second_order, churn=0.2 * (args[3] - args[4]))(*args))


def test_euler_is_ddim_to_the_bit():
    keys, z = samplers.initial_latents(jax.random.key(0), (10, 2))
    for gamma_t, gamma_s in ((4.0, 2.0), (0.3, -9.0)):
        args = keys, predictions.both(affine.denoise), z, (), jnp.float32(gamma_t), jnp.float32(gamma_s)
        np.testing.assert_array_equal(samplers.euler().step(*args).z, samplers.ddim().step(*args).z)


def test_churn_may_be_traced_and_is_held_to_the_papers_bound():
    gammas, traces = jnp.asarray(affine.GAMMAS), []

    @jax.jit
    def run(churn, s_max):
        traces.append(None)
        sampler = samplers.heun(churn, s_max=s_max)
        return samplers.sample(jax.random.key(0), affine.denoise, sampler, gammas, (4, 1))

    none, some, most, more = (run(jnp.float32(churn), jnp.float32(100.0)) for churn in (0.0, 0.2, 2**0.5 - 1, 0.9))
    np.testing.assert_allclose(most, more, rtol=1e-5, atol=1e-6)
    assert np.all(none != some)
    np.testing.assert_allclose(run(jnp.float32(0.2), jnp.float32(0.0)), none, rtol=1e-5, atol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("options", [{"churn": -0.1}, {"churn": 0.5}, {"s_min": -1.0}, {"s_noise": float("nan")}])
def test_options_out_of_range_are_refused(options):
    (name,) = options
    for constructor in (samplers.euler, samplers.heun):
        with pytest.raises(ValueError, match=rf"{name}=.*: must be a number from 0 to (0.414214|100|inf)"):
            constructor(**options)
