"""The shifted mean of Eq. 43: its definition, and how it comes near classifier guidance by the score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import gaussian, guidance, oracles, predictions, samplers
from vdm.keys import folded

MEANS, STDS = np.array([[-0.6, 0.1, 0.4], [0.5, 0.3, -0.2]]), np.array([0.3, 0.5])
ORACLE = oracles.mixture([0.4, 0.6], MEANS, STDS)
HIGH, LOW, SCALE = 3.0, -3.0, 2.0
SAMPLERS = {"ancestral": samplers.ancestral(), "ddpm": samplers.ddpm("large"), "ddim": samplers.ddim(0.5)}


def log_prob(z, gamma):
    return ORACLE.log_posterior(z, gamma)[:, 1]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_is_a_draw_around_the_moved_mean(name):
    sampler, moved = SAMPLERS[name], samplers.shifted(SAMPLERS[name], log_prob, SCALE)
    keys, z = samplers.initial_latents(jax.random.key(0), (5, 3))
    gamma_t, gamma_s = jnp.float32(1.0), jnp.float32(0.2)
    denoise = predictions.both(ORACLE.denoise)

    @jax.jit
    def steps(z):
        still = samplers.shifted(sampler, log_prob, 0.0)
        made = [each.step(folded(keys, 1), denoise, z, (), gamma_t, gamma_s) for each in (sampler, moved, still)]
        mean, std, _ = sampler.moments(denoise, z, gamma_t, gamma_s)
        # ∇ log p(c|z) = (ε̂ − ε̂_c)/σ at μ and γ_s.
        eps, eps_c = ORACLE.denoise(mean, gamma_s), ORACLE.denoise_component(1)(mean, gamma_s)
        return made, std, (eps - eps_c) / gaussian.sigma(gamma_s), moved.moments(denoise, z, gamma_t, gamma_s).std

    (plain, shifted, still), std, slope, std_of_moved = steps(z)
    np.testing.assert_allclose(shifted.z - plain.z, SCALE * std**2 * slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(shifted.x_hat, plain.x_hat)
    assert np.abs(shifted.z - plain.z).min() > 1e-4
    np.testing.assert_array_equal(still.z, plain.z)
    # The noise is the sampler's own.
    np.testing.assert_allclose(std_of_moved, std)


def moves(sampler, gamma_t, h):
    """How far each form moves the mean of a step from γ_t to γ_t − h, in float64."""
    z = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    gamma_t = jnp.asarray(gamma_t)
    by_score = predictions.both(guidance.classifier(ORACLE.denoise, log_prob, SCALE))
    plain = predictions.both(ORACLE.denoise)
    before = sampler.moments(plain, z, gamma_t, gamma_t - h).mean
    shifted = samplers.shifted(sampler, log_prob, SCALE).moments(plain, z, gamma_t, gamma_t - h).mean
    return shifted - before, sampler.moments(by_score, z, gamma_t, gamma_t - h).mean - before


def test_one_step_is_off_the_score_form_by_the_square_of_its_size():
    with jax.enable_x64(True):
        for name in ("ancestral", "ddpm"):
            compiled = jax.jit(lambda h, name=name: moves(SAMPLERS[name], 0.5, h))
            errors, sizes = [], []
            for h in (0.04, 0.02, 0.01):
                shifted, by_score = compiled(h)
                errors.append(float(jnp.abs(shifted - by_score).max()))
                sizes.append(float(jnp.abs(by_score).max()))
            np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.1)
            np.testing.assert_allclose(np.divide(sizes[:-1], sizes[1:]), 2, rtol=0.1)


def test_of_ddim_the_shift_is_less_by_a_known_factor():
    with jax.enable_x64(True):
        compiled = jax.jit(lambda eta: moves(samplers.ddim(eta), 0.5, 1e-4))
    for eta in (0.3, 0.7, 1.0):
        with jax.enable_x64(True):
            shifted, by_score = compiled(jnp.asarray(np.float64(eta)))
        np.testing.assert_allclose(shifted / by_score, 2 * eta**2 / (1 + eta**2), rtol=1e-2)


def test_images_of_the_same_noise_come_together_in_proportion_to_the_step():
    """In the mean over images: single ones near the border between the classes are chaotic."""

    @jax.jit
    def distance(gammas):
        key, shape, sampler = jax.random.key(1), (400, 3), samplers.ancestral()
        by_score = guidance.classifier(ORACLE.denoise, log_prob, SCALE)
        one = samplers.sample(key, by_score, sampler, gammas, shape)
        other = samplers.sample(key, ORACLE.denoise, samplers.shifted(sampler, log_prob, SCALE), gammas, shape)
        return jnp.mean(jnp.linalg.norm(one - other, axis=1))

    distances = [float(distance(jnp.linspace(HIGH, LOW, steps + 1))) for steps in (80, 160)]
    np.testing.assert_allclose(np.divide(distances[:-1], distances[1:]), 2, rtol=0.15)


def test_what_has_no_mean_of_its_own_is_refused():
    for sampler in (samplers.heun(), samplers.dpm_solver_pp(2), samplers.unipc(), samplers.predictor_corrector()):
        with pytest.raises(ValueError, match=r"^sampler: its steps are not Gaussian draws; must be "):
            samplers.shifted(sampler, log_prob, 1.0)
