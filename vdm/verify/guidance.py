"""Checks of guidance on the mixture of `vdm.verify.checks`, whose components are the classes."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from vdm import guidance as library
from vdm import oracles, predictions, samplers
from vdm.predictions import Both
from vdm.verify import float64
from vdm.verify.checks import GAMMA_0, GAMMA_1, MEANS, STDS, Check, _mean_of, _mixture, _scaled

SCALE = 1.5


def guidance(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check classifier guidance by Bayes' rule, classifier-free guidance by its log-density, and samples of both.

    With the exact p(c|z_t) and s = 1, classifier guidance turns the denoiser into that of the class: the score form at
    every γ, and the shifted mean of Strümke & Langseth, Eq. 43, in the limit of small steps. (1 + w) ε̂_c − w ε̂ is −σ
    times the gradient of (1 + w) log p(z|c) − w log p(z), whose ODE is solved in float64.
    """
    oracle, own = _mixture(), predictions.both(_mixture().denoise_component(1))
    gammas = np.repeat(np.linspace(-10, 10, 41), 25)
    z = np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(size=(gammas.size, 1))
    z32, gammas32 = jnp.asarray(z, jnp.float32), jnp.asarray(gammas, jnp.float32)

    def log_prob(z: Array, gamma: Array) -> Array:
        return oracle.log_posterior(z, gamma)[:, 1]

    def error(of: Both, like: np.ndarray) -> float:
        """The largest error of ε̂, relative to the larger of 1 and |ε̂|."""
        found = np.asarray(jax.jit(of)(z32, gammas32).eps, np.float64)
        return float(np.max(np.abs(found - like) / np.maximum(np.abs(like), 1)))

    exact = _eps(1, z, gammas)
    # Allow for about ten roundings, of numbers that the guidance scale magnifies.
    by_classifier = library.classifier(oracle.denoise, log_prob, 1.0)
    yield Check("classifier guidance, s = 1: error of ε̂", 0.0, error(by_classifier, exact), tolerance=2e-5)
    for w in (0.0, -1.0, SCALE):
        like = (1 + w) * exact - w * _eps(None, z, gammas)
        guided = library.classifier_free(own, oracle.denoise, w)
        yield Check(f"classifier-free, w = {w}: error of ε̂", 0.0, error(guided, like), tolerance=2e-5)

    one, other = (oracles.gaussian([m], [s**2]).denoise for m, s in zip(MEANS, STDS, strict=True))
    guided = library.classifier_free(one, other, SCALE)
    grid = jnp.linspace(GAMMA_1, GAMMA_0, 401)
    ends = jnp.asarray([[0.0], [1.0]])
    z_0 = jax.jit(partial(samplers.sample_from, key, guided, samplers.heun(), grid))(ends)[:, 0]
    for name, value, found in zip(("0", "1"), _flow(np.array([0.0, 1.0])), z_0, strict=True):
        # The tolerance is Heun's error at 400 steps.
        yield Check(f"ODE of a class led away from another, z₀ of z₁ = {name}", value, float(found), tolerance=5e-5)

    # At 1000 steps, mean and square are off by about 0.005; at 4000, by a quarter of a standard error.
    shifted = samplers.shifted(samplers.ancestral(), log_prob, 1.0)
    num_steps = 4000
    draw = jax.jit(partial(samplers.sample, denoise=oracle.denoise, sampler=shifted, shape=(_scaled(2**12, scale), 1)))
    z = np.asarray(draw(key, gammas=jnp.linspace(GAMMA_1 + 4, GAMMA_0, num_steps + 1)), np.float64)[:, 0]
    mean = float64.alpha(GAMMA_0) * MEANS[1]
    variance = (float64.alpha(GAMMA_0) * STDS[1]) ** 2 + float64.sigma(GAMMA_0) ** 2
    yield _mean_of(f"sampler, mean shifted to a class, T = {num_steps}, mean", mean, z)
    yield _mean_of(f"sampler, mean shifted to a class, T = {num_steps}, square", mean**2 + variance, z**2)


def _eps(k: int | None, z: np.ndarray, gammas: np.ndarray) -> np.ndarray:
    """−σ ∇ log p(z) of the mixture or of its component k, in float64 from the density itself."""
    oracle = _mixture() if k is None else oracles.gaussian(MEANS[k : k + 1], STDS[k : k + 1] ** 2)
    with jax.enable_x64(True):
        slope = jax.grad(lambda z: jnp.sum(oracle.log_marginal(z, jnp.asarray(gammas))))(jnp.asarray(z))
    return -float64.sigma(gammas)[:, None] * np.asarray(slope)


def _flow(z: np.ndarray, num_steps: int = 4000) -> np.ndarray:
    """z₀ from z₁ by dz/dγ = ½ σ ((1 + w) ε_c − w ε − σ z) for the two Gaussians, by fourth-order Runge–Kutta."""

    def field(z: np.ndarray, gamma: float) -> np.ndarray:
        alpha, sigma = float64.alpha(gamma), float64.sigma(gamma)
        eps = [sigma * (z - alpha * m) / (alpha**2 * s**2 + sigma**2) for m, s in zip(MEANS, STDS, strict=True)]
        return np.asarray(0.5 * sigma * ((1 + SCALE) * eps[0] - SCALE * eps[1] - sigma * z))

    h = (GAMMA_0 - GAMMA_1) / num_steps
    for gamma in GAMMA_1 + h * np.arange(num_steps):
        a = field(z, gamma)
        b = field(z + h / 2 * a, gamma + h / 2)
        c = field(z + h / 2 * b, gamma + h / 2)
        z = z + h / 6 * (a + 2 * b + 2 * c + field(z + h * c, gamma + h))
    return z
