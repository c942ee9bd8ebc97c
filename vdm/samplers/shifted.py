"""Classifier guidance of a stochastic sampler: the mean of each step moved towards a class."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from vdm.predictions import Both
from vdm.samplers.loop import Moments, Sampler, check_sampler, of_moments


def shifted(sampler: Sampler, log_prob: Callable[[Array, Array], Array], scale: ArrayLike) -> Sampler:
    """z_s ~ N(μ + s Σ ∇_z log p(c|z), Σ), the gradient at z = μ and γ_s (Strümke & Langseth, Eq. 43).

    `log_prob` is (z, γ) -> log p(c|z_γ) in nats, (batch,); s is `scale`, which may be traced. μ and Σ are those of
    `sampler`: `ancestral`, `ddpm` or `ddim` with η > 0. Where Σ is 0, nothing is shifted.

    It is p(z_s|z_t) p(c|z_s)ˢ with log p(c|z_s) made linear. For h = γ_t − γ_s → 0 the shift of `ancestral` and
    `ddpm("large")` is s σ² h ∇ log p(c|z), as is that of the score form, `guidance.classifier`; one step of the two
    differs by O(h²), and so the images of the same noise by O(h). `ddim(η)` shifts by η² σ² h s ∇ log p(c|z), its
    score form by ½ (1 + η²) σ² h s ∇ log p(c|z): below η = 1 this form has only 2η²/(1 + η²) of the effect.

    Raises ValueError for a sampler whose steps are no draws of a Gaussian.

    >>> from vdm import samplers
    >>> upwards = shifted(samplers.ancestral(), lambda z, gamma: jnp.sum(z, axis=1), scale=1.0)
    >>> draw = lambda sampler: samplers.sample(
    ...     jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, jnp.linspace(5.0, -5.0, 11), (4, 2)
    ... )
    >>> bool(jnp.all(draw(upwards) > draw(samplers.ancestral())))
    True
    """
    check_sampler("sampler", sampler)
    if sampler.moments is None:
        raise ValueError("sampler: its steps are no draws of a Gaussian; must be ancestral, ddpm or ddim with eta > 0")
    unshifted = sampler.moments

    def moments(denoise: Both, z: Array, gamma_t: Array, gamma_s: Array) -> Moments:
        mean, std, x_hat = unshifted(denoise, z, gamma_t, gamma_s)
        slope = jax.grad(lambda z: jnp.sum(log_prob(z, gamma_s)))(mean)
        return Moments(mean + jnp.asarray(scale, z.dtype) * jnp.square(std) * slope, std, x_hat)

    return of_moments(moments)
