"""Runs that start from given images: SDEdit at every noise level, and inversion with another class, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled
from oracle import alpha, assert_mean, sigma

from vdm import decodings, oracles, parts, samplers
from vdm.samplers import grids

MEANS, STD = np.array([[-0.5, 0.2], [0.6, -0.3]]), 0.3
CLASSES = oracles.mixture([0.5, 0.5], MEANS, [STD, STD])
GAMMA_0, GAMMA_1 = -8.0, 10.0
X = jnp.array([[0.9, -0.8], [0.1, 0.4], [-0.7, 0.0]])
NAMES = [*parts.names("sampler"), "dpm_solver_pp(3)"]


def gamma(t):
    return GAMMA_0 + (GAMMA_1 - GAMMA_0) * t


def std_of(level):
    return np.sqrt(alpha(level) ** 2 * STD**2 + sigma(level) ** 2)


def moved(z, k, level, new):
    """By the flow of class k, from `level` to `new`."""
    unit = (np.asarray(z, np.float64) - alpha(level) * MEANS[k]) / std_of(level)
    return alpha(new) * MEANS[k] + std_of(new) * unit


def test_images_are_noised_each_from_its_own_key():
    key = jax.random.key(0)
    z = samplers.noised(key, X, 0.5)
    _, eps = samplers.initial_latents(key, X.shape)
    np.testing.assert_allclose(z, alpha(0.5) * np.asarray(X) + sigma(0.5) * np.asarray(eps), rtol=1e-5)
    np.testing.assert_array_equal(samplers.noised(key, X, jnp.inf), eps)
    np.testing.assert_array_equal(samplers.noised(key, X[1:], 0.5, first=1), z[1:])
    np.testing.assert_array_equal(samplers.noised(key, X, -jnp.inf), X)


@pytest.mark.parametrize("name", parts.names("grid"))
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_grids_until_t_go_from_its_gamma_to_the_end_by_the_same_rule(name, t):
    grid = parts.make("grid", name)
    gammas = jax.jit(lambda t: grid.gammas(grids.until(gamma, t), 7))(jnp.float32(t))
    np.testing.assert_allclose(gammas[jnp.array([0, -1])], [gamma(np.float32(t)), GAMMA_0], rtol=1e-6)
    wanted = grid.gammas(lambda u: gamma(t) * u + GAMMA_0 * (1 - u), 7)
    # Two roundings of γ, up to 10; `cosine` and `karras` magnify them by 14.
    np.testing.assert_allclose(gammas, wanted, atol=5e-5)


def test_a_discrete_model_keeps_its_own_steps():
    """t = i/T with i steps of the model."""
    own = np.asarray(grids.schedule().gammas(gamma, 10, 10))
    part = grids.schedule().gammas(grids.until(gamma, 4 / 10), 4, 4)
    np.testing.assert_allclose(part, own[-5:], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_from_no_noise_the_image_comes_back(name):
    """Steps of no length, and the image's levels; but a corrector moves z by its own noise."""
    levels = 17
    image = jnp.asarray(np.random.default_rng(0).integers(0, levels, (4, 2)), jnp.uint8)
    key, x = jax.random.key(0), (2 * jnp.asarray(image, jnp.float32) + 1) / levels - 1
    gammas = grids.uniform().gammas(grids.until(gamma, 0.0), 3)
    z = samplers.noised(key, x, gammas[0])
    z_0 = samplers.sample_from(key, CLASSES.denoise, parts.make("sampler", name), gammas, z)
    if name != "predictor_corrector":
        np.testing.assert_allclose(z_0, z, atol=1e-5)
        keys, _ = samplers.initial_latents(key, x.shape)
        np.testing.assert_array_equal(decodings.mode()(keys, z_0, gammas[-1], levels), image)


@pytest.mark.parametrize("t", [0.3, 0.55, 1.0])
def test_from_every_level_samples_have_the_distribution_in_closed_form(t):
    """z of the image is N(α x, σ²), and the flow takes it to another Gaussian; from γ(1) to that of the data."""
    num, key, level = 4000, jax.random.key(0), gamma(t)
    z = samplers.noised(key, jnp.repeat(X[:1], num, axis=0), jnp.float32(level))
    gammas = grids.uniform().gammas(grids.until(gamma, t), 80)
    draw = jax.jit(lambda z: samplers.sample_from(key, CLASSES.denoise_component(1), samplers.heun(), gammas, z))
    z_0, mean = np.asarray(draw(z)), moved(alpha(level) * np.asarray(X[0]), 1, level, GAMMA_0)
    var = (std_of(GAMMA_0) / std_of(level) * sigma(level)) ** 2
    assert_mean(z_0, mean)
    assert_mean((z_0 - mean) ** 2, var)
    if t == 1.0:
        # What is left of the image at γ(1) = 10: α₁ = 0.007, a fourth of a standard error after the flow.
        assert_mean(z_0, alpha(GAMMA_0) * MEANS[1])
        assert_mean((z_0 - mean) ** 2, std_of(GAMMA_0) ** 2)


@pytest.mark.parametrize("new", [0, 1])
def test_inversion_and_another_class_move_the_image_as_the_flow_does(new):
    """There with the image's own class 0, back with the same or the other: O(step)."""
    errors = []
    z_0 = X * np.float32(alpha(GAMMA_0))
    wanted = moved(moved(z_0, 0, GAMMA_0, 4.0), new, 4.0, GAMMA_0)
    if not new:
        np.testing.assert_allclose(wanted, z_0, atol=1e-6)
    for num_steps in (50, 200):
        gammas = jnp.linspace(4.0, GAMMA_0, num_steps + 1)
        z_1 = samplers.invert(CLASSES.denoise_component(0), z_0, gammas)
        back = samplers.sample_from(jax.random.key(0), CLASSES.denoise_component(new), samplers.ddim(), gammas, z_1)
        errors.append(np.abs(back - wanted).max())
    assert errors[1] < 0.05
    assert errors[0] > 3 * errors[1]
    if new:
        assert np.abs(wanted - z_0).max() > 0.3


def test_images_and_numbers_need_one_program():
    @jax.jit
    def edited(key, x, t, first):
        gammas = grids.karras().gammas(grids.until(gamma, t), 5)
        z = samplers.noised(key, x, gammas[0], first)
        return samplers.sample_from(key, CLASSES.denoise, samplers.ancestral(), gammas, z, first)

    key = jax.random.key(0)
    with compiled(edited) as programs:
        found = [edited(key, X, jnp.float32(t), jnp.int32(0)) for t in (0.2, 0.7)]
    assert len(programs) == 1
    assert np.abs(found[0] - found[1]).max() > 0.01
    alone = edited(key, X[1:2], jnp.float32(0.7), jnp.int32(1))
    np.testing.assert_allclose(alone[0], found[1][1], rtol=1e-5, atol=1e-6)
