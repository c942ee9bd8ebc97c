"""Classifier guidance of a stochastic sampler by shifting the mean of each step towards a class."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from vdm.predictions import Both
from vdm.samplers.loop import Moments, Sampler, check_sampler, of_moments


def shifted(sampler: Sampler, log_prob: Callable[[Array, Array], Array], scale: ArrayLike) -> Sampler:
    """Draw z_s ~ N(μ + s Σ ∇_z log p(c|z), Σ), with the gradient at z = μ and γ_s (Strümke & Langseth, Eq. 43).

    `log_prob` is a function (z, γ) -> log p(c|z_γ) in nats, of shape (batch,); s is `scale`, which may be traced. μ and
    Σ are the mean and covariance of `sampler`: `ancestral`, `ddpm` or `ddim` with η > 0. Where Σ is 0, nothing is
    shifted.

    The result is p(z_s|z_t) p(c|z_s)ˢ with log p(c|z_s) linearized. For h = γ_t − γ_s → 0 the shift of `ancestral` and
    `ddpm("large")` is s σ² h ∇ log p(c|z), the same as that of the score form, `guidance.classifier`. One step of the
    two forms differs by O(h²), so images from the same noise differ by O(h). `ddim(η)` shifts by
    η² σ² h s ∇ log p(c|z), but its score form by ½ (1 + η²) σ² h s ∇ log p(c|z): below η = 1 this form has only
    2η²/(1 + η²) of the effect.

    Raises ValueError for a sampler whose steps are not draws from a Gaussian.

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
        raise ValueError("sampler: its steps are not Gaussian draws; must be ancestral, ddpm or ddim with eta > 0")
    unshifted = sampler.moments

    def moments(denoise: Both, z: Array, gamma_t: Array, gamma_s: Array) -> Moments:
        mean, std, x_hat = unshifted(denoise, z, gamma_t, gamma_s)
        slope = jax.grad(lambda z: jnp.sum(log_prob(z, gamma_s)))(mean)
        return Moments(mean + jnp.asarray(scale, z.dtype) * jnp.square(std) * slope, std, x_hat)

    return of_moments(moments)
