"""EDM's solvers, with churn, of the probability-flow ODE: dy/ds = ε̂ in the variables y = z/α and s = σ/α = e^{γ/2}."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from vdm import gaussian
from vdm.keys import Keys, normal_per_image
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.loop import Memory, Sampler, Step

_MOST_CHURN = float(np.sqrt(2) - 1)


def euler(
    churn: ArrayLike = 0.0, s_min: ArrayLike = 0.0, s_max: ArrayLike = np.inf, s_noise: ArrayLike = 1.0
) -> Sampler:
    """Euler's rule in s = σ/α, with churn (Karras et al. 2022, Alg. 2 without lines 7–8); `ddim(0)` when churn is 0.

    First order, one network call per step, stochastic when churn > 0. For churn and γ = ∞ see `heun`.

    >>> import jax
    >>> from vdm import samplers
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> sampler = euler()
    >>> samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2)).shape
    (4, 2)
    """
    return _solver(churn, s_min, s_max, s_noise, second_order=False)


def heun(
    churn: ArrayLike = 0.0, s_min: ArrayLike = 0.0, s_max: ArrayLike = np.inf, s_noise: ArrayLike = 1.0
) -> Sampler:
    """Heun's rule in s = σ/α, with churn (Karras et al. 2022, Alg. 2).

    y_s = ŷ + (s_s − ŝ)(ε̂(ŷ, ŝ) + ε̂(y', s_s))/2, where y' is Euler's y_s. As s_s > 0 even at γ(0), no step has to fall
    back to Euler's rule. Where s_min ≤ s_t ≤ s_max, noise is added before the step, which raises s_t to
    ŝ = (1 + churn) s_t; its standard deviation is s_noise √(ŝ² − s_t²). `churn` is the paper's S_churn/N, at most
    √2 − 1. The network is then called above γ_t; choose (1 + churn) s_max ≤ e^{γ(1)/2} to stay within the γ that it was
    trained on.

    Second order, two network calls per step, stochastic when churn > 0; all four arguments may be traced. From γ = ∞,
    where y is infinite, the first step is an Euler step without churn. Raises ValueError for a Python number out of
    range.

    >>> import jax
    >>> from vdm import samplers
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> sampler = heun(churn=0.1)
    >>> samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2)).shape
    (4, 2)
    """
    return _solver(churn, s_min, s_max, s_noise, second_order=True)


def _solver(churn: ArrayLike, s_min: ArrayLike, s_max: ArrayLike, s_noise: ArrayLike, second_order: bool) -> Sampler:
    options.check_range("churn", churn, 0.0, _MOST_CHURN)
    for name, value, most in (("s_min", s_min, np.inf), ("s_max", s_max, np.inf), ("s_noise", s_noise, 100.0)):
        options.check_range(name, value, 0.0, most)

    def churned(keys: Keys, z: Array, gamma: Array) -> tuple[Array, Array]:
        """Return (ẑ, γ̂); with s_noise = 1, ẑ is a draw of the forward process q(z_γ̂|z_γ)."""
        s = jnp.exp(gamma / 2)
        where = (s >= s_min) & (s <= s_max) & jnp.isfinite(gamma)
        higher = gamma + 2 * jnp.log1p(jnp.where(where, jnp.minimum(churn, _MOST_CHURN).astype(gamma.dtype), 0))
        signal, var = gaussian.transition(gamma, higher)
        noise = s_noise * jnp.sqrt(var) * normal_per_image(keys, z.shape)
        return jnp.where(where, signal * z + noise, z), higher

    def step(keys: Keys, denoise: Both, z: Array, memory: Memory, gamma_t: Array, gamma_s: Array) -> Step:
        z, gamma = churned(keys, z, gamma_t)
        x_hat, eps_hat = denoise(z, gamma)
        z_s = gaussian.alpha(gamma_s) * x_hat + gaussian.sigma(gamma_s) * eps_hat
        if second_order:
            _, eps_hat_s = denoise(z_s, gamma_s)
            # The step α_s (s_s − ŝ).
            length = -gaussian.sigma(gamma_s) * jnp.expm1((gamma - gamma_s) / 2)
            z_s += jnp.where(jnp.isfinite(gamma), length * (eps_hat_s - eps_hat) / 2, 0)
        return Step(z_s, x_hat, memory)

    return Sampler(init=lambda z: (), step=step, calls=2 if second_order else 1)
