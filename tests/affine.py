"""Samplers on Gaussian data N(MEAN, STD²), where every step is affine: recursions in float64 numpy against the library.

A latent is written as its coefficients over (1, z₁, noise of step 0, noise of step 1, …), so that a formula typed as
the paper prints it, applied to coefficients, gives the exact mean and variance after every step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import oracle

from vdm import predictions, samplers

MEAN, STD, NUM = 0.3, 0.6, 40_000
# Uneven, as multistep formulas must not take the last step for this one.
GAMMAS = np.array([4.0, 2.9, 2.2, 0.6, 0.1, -1.2, -1.8, -3.9, -6.0], np.float32)

# (z, predict, memory, γ_t, γ_s, noise) -> (z_s, memory)
Formula = Callable[..., tuple[np.ndarray, Any]]


def denoise(z, gamma):
    return oracle.gaussian_eps(z, gamma, MEAN, STD)


def predict(z: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """(x̂, ε̂) of coefficients: E[x|z] by Bayes."""
    alpha, sigma = oracle.alpha(gamma), oracle.sigma(gamma)
    one = np.eye(len(z))[0]
    var_x = 1 / (1 / STD**2 + alpha**2 / sigma**2)
    x_hat = var_x * (MEAN / STD**2 * one + alpha / sigma**2 * z)
    return x_hat, (z - alpha * x_hat) / sigma


def chain(formula: Formula, gammas: Sequence[float], memory: Any = ()) -> list[np.ndarray]:
    """Coefficients of z at every point of the grid."""
    basis = np.eye(len(gammas) + 1)
    latents = [basis[1]]
    for n, (gamma_t, gamma_s) in enumerate(pairwise(oracle.f64(gammas))):
        z, memory = formula(latents[-1], predict, memory, gamma_t, gamma_s, basis[n + 2])
        latents.append(z)
    return latents


def moments(coefficients: np.ndarray) -> tuple[float, float]:
    return coefficients[0], np.sum(coefficients[1:] ** 2)


def check(sampler: samplers.Sampler, formula: Formula, memory: Any = (), gammas: np.ndarray = GAMMAS) -> None:
    """z after every step of the library: its values where nothing is drawn, else its mean and variance."""
    latents = chain(formula, gammas, memory)
    deterministic = not np.any(latents[-1][2:])
    step = jax.jit(partial(sampler.step, denoise=predictions.both(denoise)))
    keys, z = samplers.initial_latents(jax.random.key(0), (100 if deterministic else NUM, 1))
    z_1, state = oracle.f64(z), sampler.init(z)
    for n, expected in enumerate(latents[1:]):
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, n + 1)
        z, _, state = step(step_keys, z=z, memory=state, gamma_t=gammas[n], gamma_s=gammas[n + 1])
        if deterministic:
            # x̂ = (z − σ ε̂)/α magnifies float32 roundings of z by 1/α₁ = 7 at most.
            np.testing.assert_allclose(z, expected[0] + expected[1] * z_1, rtol=1e-5, atol=1e-5)
        else:
            mean, var = moments(expected)
            oracle.assert_mean(z[:, 0], mean)
            oracle.assert_mean((z[:, 0] - mean) ** 2, var)


def assert_converges(formula: Formula, memory: Any = (), num: int = 800) -> None:
    """Mean and variance at the end tend to those of q(z₀) as 1/T, for a formula that `check` has been given.

    From γ = 12, where z₁ ~ N(0, 1) is q(z₁) to 1e-5.
    """
    exact = oracle.alpha(-6.0) * MEAN, oracle.alpha(-6.0) ** 2 * STD**2 + oracle.sigma(-6.0) ** 2
    errors = []
    for num_steps in (num // 8, num):
        ends = moments(chain(formula, np.linspace(12.0, -6.0, num_steps + 1), memory)[-1])
        errors.append(np.abs(np.subtract(ends, exact)))
    assert np.all(errors[1] < 6e-3)
    assert np.all((errors[1] < errors[0] / 4) | (errors[1] < 1e-3))


def integral(h: float, points: Sequence[float], values: Sequence[np.ndarray]) -> np.ndarray:
    """∫₀ʰ e^{u−h} p(u) du of the polynomial through `values` at `points`: Lagrange's form, Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(30)
    u = h * (nodes + 1) / 2
    total = 0.0
    for i, value in enumerate(values):
        others = [(u - p) / (points[i] - p) for j, p in enumerate(points) if j != i]
        total = total + np.sum(weights * h / 2 * np.exp(u - h) * np.prod(others, axis=0)) * value
    return total
