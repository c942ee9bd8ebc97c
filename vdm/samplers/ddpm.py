"""DDPM: the posterior mean at x̂, plus noise of either of two variances or no noise."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from vdm import gaussian
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.ancestral import ancestral
from vdm.samplers.loop import Moments, Sampler, of_moments

_VARIANCES: dict[str, Callable[[Array, Array], Array]] = {
    "large": lambda gamma_s, gamma_t: gaussian.transition(gamma_s, gamma_t)[1],
    "none": lambda gamma_s, gamma_t: jnp.zeros_like(gamma_t),
}


def ddpm(variance: str = "large") -> Sampler:
    """DDPM's sampler (Ho et al. 2020, Alg. 2): the mean of q(z_s|z_t, x̂), plus noise of a chosen variance.

    z_s = α_s/α_t (z_t − σ_t c ε̂) + √v ε with c = −expm1(γ_s − γ_t), and v

    - "small": σ_s² c, known as β̃, exact if the data are a single point; the same as `ancestral`;
    - "large": σ_t² c = σ²_{t|s}, known as β, exact for data from N(0, 1); Su & Yang (2025), Eq. 1.16. It is the σ̂ of
      the DDIM paper and of Wang, §3.4, where ε̂ is still multiplied by √(σ_s² − β̃), as √(σ_s² − β) need not be real;
    - "none": 0, the greedy search of Su & Yang (2025), Eq. 1.15. It does not sample the model: the variance that each
      step removes is never put back.

    First order, one network call per step, stochastic except for "none". It can also start from γ = ∞. Raises
    ValueError for any other variance.

    >>> import jax
    >>> from vdm import samplers
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> sampler = ddpm("large")
    >>> samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2)).shape
    (4, 2)
    """
    options.check_choice("variance", variance, ("small", *_VARIANCES))
    if variance == "small":
        return ancestral()

    def moments(denoise: Both, z: Array, gamma_t: Array, gamma_s: Array) -> Moments:
        x_hat, _ = denoise(z, gamma_t)
        mean, _ = gaussian.posterior(z, x_hat, gamma_s, gamma_t)
        return Moments(mean, jnp.sqrt(_VARIANCES[variance](gamma_s, gamma_t)), x_hat)

    return of_moments(moments)
