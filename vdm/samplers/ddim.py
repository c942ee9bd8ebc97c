"""DDIM: processes with the same marginals q(z_t|x) that differ in how much of the noise each step replaces."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from vdm import gaussian
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.loop import Moments, Sampler, of_moments


def ddim(eta: ArrayLike = 0.0) -> Sampler:
    """DDIM (Song, Meng & Ermon 2021, Eq. 12; Wang, Eq. 12–16): each step replaces part of ε̂ by fresh noise.

    z_s = α_s x̂ + √(σ_s² − v) ε̂ + √v ε with v = η² β̃ and β̃ = σ_s² c, c = −expm1(γ_s − γ_t). (Wang, Eq. 16 has a
    misplaced parenthesis, and its §3.4 writes σ² = η β̃.) η lies between 0 and 1 and may be traced: η = 0 solves the
    probability-flow ODE by Euler's rule, η = 1 is `ancestral`.

    First order, one network call per step, stochastic unless η = 0. It can also start from γ = ∞. Raises ValueError
    for a Python number outside [0, 1].

    >>> import jax
    >>> from vdm import samplers
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> sampler = ddim(eta=0.5)
    >>> samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2)).shape
    (4, 2)
    """
    options.check_range("eta", eta, 0.0, 1.0)

    def moments(denoise: Both, z: Array, gamma_t: Array, gamma_s: Array) -> Moments:
        x_hat, eps_hat = denoise(z, gamma_t)
        # Nothing is drawn on the way up the grid, which `latents.invert` takes.
        change = jnp.minimum(gamma_s - gamma_t, 0)
        fresh = eta**2 * -jnp.expm1(change)
        # 1 − fresh, without cancellation at η = 1.
        kept = (1 - eta**2) + eta**2 * jnp.exp(change)
        alpha, sigma = gaussian.alpha(gamma_s), gaussian.sigma(gamma_s)
        return Moments(alpha * x_hat + sigma * (jnp.sqrt(kept) * eps_hat), sigma * jnp.sqrt(fresh), x_hat)

    return of_moments(moments)
