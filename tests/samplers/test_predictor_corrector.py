"""Predictor–corrector: corrections by their formula, and Langevin dynamics that find the distribution."""

import itertools

import affine
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from vdm import predictions, samplers

PREDICT = predictions.both(affine.denoise)


def nothing(keys, predict, z, memory, gamma_t, gamma_s):
    """A predictor that leaves z where it is."""
    return samplers.Step(z, z, memory)


def folded(keys, n):
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, n)


def test_corrections_are_the_papers_langevin_steps():
    """Song et al. Alg. 5 with α_i = α²_{t|s} and norms an image, three times in a row."""
    keys, z = samplers.initial_latents(jax.random.key(0), (7, 4))
    gamma_t, gamma_s, snr = jnp.float32(1.5), jnp.float32(0.5), 0.3
    sampler = samplers.predictor_corrector(3, snr, samplers.Sampler(lambda z: (), nothing))
    result = sampler.step(keys, PREDICT, z, (), gamma_t, gamma_s).z
    expected = oracle.f64(z)
    for n in (1, 2, 3):
        noise = oracle.f64(samplers.loop.normal_per_image(folded(keys, n), z.shape))
        score = -oracle.gaussian_eps(expected, 0.5, affine.MEAN, affine.STD) / oracle.sigma(gamma_s)
        norms = [np.linalg.norm(each, axis=1, keepdims=True) for each in (noise, score)]
        delta = 2 * oracle.transition(gamma_s, gamma_t)[0] ** 2 * (snr * norms[0] / norms[1]) ** 2
        expected = expected + delta * score + np.sqrt(2 * delta) * noise
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_where_eps_hat_is_zero_there_is_no_correction():
    """Of the first image alone; one that is not finite stays so."""
    keys, z = samplers.initial_latents(jax.random.key(0), (3, 4))
    scale = jnp.array([[0.0], [1.0], [jnp.nan]])
    predict = predictions.both(lambda z, gamma: scale * affine.denoise(z, gamma))
    sampler = samplers.predictor_corrector(2, 0.3, samplers.Sampler(lambda z: (), nothing))
    args = z, (), jnp.float32(1.5), jnp.float32(0.5)
    result = sampler.step(keys, predict, *args).z
    np.testing.assert_array_equal(result[0], z[0])
    np.testing.assert_array_equal(result[1], sampler.step(keys, PREDICT, *args).z[1])
    assert np.all(result[1] != z[1])
    assert np.all(np.isnan(result[2]))


def test_the_predictor_is_first_with_randomness_of_its_own():
    keys, z = samplers.initial_latents(jax.random.key(0), (7, 4))
    for predictor in (samplers.ancestral(), samplers.dpm_solver_pp(2), samplers.heun()):
        sampler = samplers.predictor_corrector(2, jnp.float32(0), predictor)
        assert sampler.calls == predictor.calls + 2
        args = z, predictor.init(z), jnp.float32(1.5), jnp.float32(0.5)
        result, expected = sampler.step(keys, PREDICT, *args), predictor.step(folded(keys, 0), PREDICT, *args)
        for got, want in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(got, want)


def test_corrections_bring_a_wrong_distribution_right():
    """Corrections at one noise level, from a point, find mean and variance of q(z_s), up to what their size does.

    In D = 64 pixels E‖g‖² is about D/V, V the variance, so that δ is about 2 snr² V and z nearly an AR(1) process:
    a = δ/V = 0.02 of the distance to the mean goes each time, and the variance tends to V/(1 − a/2), times 1 + 2/D
    because δ is larger with larger noise, and again because it is with smaller ‖g‖.
    """
    gamma, snr, shape = jnp.float32(-1.0), 0.1, (500, 64)
    sampler = samplers.predictor_corrector(400, snr, samplers.Sampler(lambda z: (), nothing))
    keys, _ = samplers.initial_latents(jax.random.key(0), shape)
    z = jax.jit(lambda z: sampler.step(keys, PREDICT, z, (), gamma, gamma).z)(jnp.zeros(shape))
    mean, var = oracle.alpha(gamma) * affine.MEAN, oracle.alpha(gamma) ** 2 * affine.STD**2 + oracle.sigma(gamma) ** 2
    oracle.assert_mean(z.mean(axis=1), mean)
    assert abs(np.mean((oracle.f64(z) - mean) ** 2) / var - (1 + 2 / 64) ** 2 / (1 - 0.01)) < 4 * np.sqrt(2 / z.size)


def test_moments_after_every_step():
    """Ancestral step and two corrections from N(0, 1), in so many pixels that the norms are what they are on average.

    A correction is then linear: ‖ε‖² = D, ‖ε̂‖² = D c² (V + (m − αμ)²) with ε̂ = c (z − αμ), z of mean m and variance V.
    """
    snr, shape, gammas = 0.16, (8, 8192), oracle.f64(affine.GAMMAS)
    keys, z = samplers.initial_latents(jax.random.key(2), shape)
    sampler = samplers.predictor_corrector(2, snr)
    step = jax.jit(lambda keys, z, gamma_t, gamma_s: sampler.step(keys, PREDICT, z, (), gamma_t, gamma_s).z)
    mean, var = 0.0, 1.0
    for n, (gamma_t, gamma_s) in enumerate(itertools.pairwise(gammas)):
        z = step(folded(keys, n + 1), z, jnp.float32(gamma_t), jnp.float32(gamma_s))

        def center(z, gamma_t=gamma_t, gamma_s=gamma_s):
            x_hat = (
                z - oracle.sigma(gamma_t) * oracle.gaussian_eps(z, gamma_t, affine.MEAN, affine.STD)
            ) / oracle.alpha(gamma_t)
            return oracle.posterior(z, x_hat, gamma_s, gamma_t)

        offset, noise = center(0.0)
        slope = center(1.0)[0] - offset
        mean, var = offset + slope * mean, slope**2 * var + noise
        alpha, sigma = oracle.alpha(gamma_s), oracle.sigma(gamma_s)
        c = sigma / (alpha**2 * affine.STD**2 + sigma**2)
        for _ in range(2):
            off = mean - alpha * affine.MEAN
            # δ/σ².
            size = 2 * (oracle.transition(gamma_s, gamma_t)[0] * snr) ** 2 / (c**2 * (var + off**2))
            mean, var = mean - sigma * size * c * off, (1 - sigma * size * c) ** 2 * var + 2 * sigma**2 * size
        oracle.assert_mean(z.ravel(), mean)
        oracle.assert_mean((z.ravel() - mean) ** 2, var)


def test_options_are_checked():
    with pytest.raises(ValueError, match="steps=0: must be a whole number, 1 or more"):
        samplers.predictor_corrector(0)
    with pytest.raises(ValueError, match=r"snr=-0\.1: must be a number from 0 to 1"):
        samplers.predictor_corrector(1, -0.1)
