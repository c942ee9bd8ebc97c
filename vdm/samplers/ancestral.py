"""Ancestral sampling: z_s ~ p(z_s|z_t), the generative model itself."""

import jax.numpy as jnp
from jaxtyping import Array

from vdm import gaussian
from vdm.bounds import Denoise
from vdm.samplers.loop import Keys, Memory, Sampler, Step, normal_per_image


def ancestral() -> Sampler:
    """VDM's sampler: z_s = α_s/α_t (z_t − σ_t c ε̂) + √((1−α_s²) c) ε with c = −expm1(γ_s − γ_t), one call a step.

    Eq. 3.104 of De Sousa Ribeiro & Glocker (2024), with the noise outside the root.
    """

    def step(keys: Keys, denoise: Denoise, z: Array, memory: Memory, gamma_t: Array, gamma_s: Array) -> Step:
        eps_hat = denoise(z, gamma_t)
        mean, var = gaussian.posterior_from_eps(z, eps_hat, gamma_s, gamma_t)
        noise = normal_per_image(keys, z.shape)
        return Step(mean + jnp.sqrt(var) * noise, gaussian.x_from_eps(z, eps_hat, gamma_t), memory)

    return Sampler(init=lambda z: (), step=step)
