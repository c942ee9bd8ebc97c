"""Ancestral sampling: draws of z_s ~ p(z_s|z_t), the generative model itself."""

import jax.numpy as jnp
from jaxtyping import Array

from vdm import gaussian
from vdm.predictions import Both
from vdm.samplers.loop import Moments, Sampler, of_moments


def ancestral() -> Sampler:
    """VDM's own sampler: draw z_s from q(z_s|z_t, x̂), Eq. 3.103 of De Sousa Ribeiro & Glocker (2024).

    This is the model's p(z_s|z_t) of Eq. 3.55 and 3.56, with the mean of Eq. 3.59 at the x̂ that follows from whatever
    the network predicts (Table 4.1; Kingma et al. 2021, Eq. 9, 26 and 27):
    z_s = α_s/α_t (z_t − σ_t c ε̂) + √((1−α_s²) c) ε with c = −expm1(γ_s − γ_t), Eq. 3.104, corrected: the noise is
    outside the root (Kingma et al. 2021, Eq. 33). One network call per step.

    >>> import jax
    >>> from vdm import samplers
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> sampler = ancestral()
    >>> samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2)).shape
    (4, 2)
    """

    def moments(denoise: Both, z: Array, gamma_t: Array, gamma_s: Array) -> Moments:
        x_hat, _ = denoise(z, gamma_t)
        mean, var = gaussian.posterior(z, x_hat, gamma_s, gamma_t)
        return Moments(mean, jnp.sqrt(var), x_hat)

    return of_moments(moments)
