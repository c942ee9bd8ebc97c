"""Predictor–corrector sampling: each step is followed by Langevin steps at a fixed noise level that correct z_s."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from vdm import gaussian
from vdm.keys import Keys, folded, normal_per_image
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.ancestral import ancestral
from vdm.samplers.loop import Memory, Sampler, Step, check_sampler


def predictor_corrector(steps: int = 1, snr: ArrayLike = 0.16, predictor: Sampler | None = None) -> Sampler:
    """A predictor step followed by `steps` Langevin corrections at γ_s (Song et al. 2021, Alg. 3 and 5).

    A correction is z ← z + δ g + √(2δ) ε with the score g = −ε̂/σ_s and δ = 2 α²_{t|s} (snr ‖ε‖/‖g‖)², where the norms
    are taken per image. The predictor is any sampler, by default `ancestral`. `snr` may be traced. Because δ varies
    with the norms, corrections inflate the variance by about 4/D in D dimensions: negligible for images, too much for
    data of few dimensions. A multistep predictor mistakes the change that a correction makes in x̂ for a slope; its
    error is then O(h), like that of other predictors.

    First order at best, stochastic, 1 + steps network calls per step (more if the predictor makes more than one). At
    s = t a correction still moves z. There is no correction from γ = ∞, where α_{t|s} = 0, nor where ε̂ = 0. Raises
    ValueError unless steps ≥ 1, for a Python number snr outside [0, 1], and for a predictor that is not a `Sampler`.

    >>> from vdm import samplers
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> sampler = predictor_corrector(snr=0.16)
    >>> samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2)).shape
    (4, 2)
    """
    options.check_count("steps", steps)
    options.check_range("snr", snr, 0.0, 1.0)
    first = ancestral() if predictor is None else predictor
    check_sampler("predictor", first)

    def step(keys: Keys, denoise: Both, z: Array, memory: Memory, gamma_t: Array, gamma_s: Array) -> Step:
        def corrected(z: Array, n: Array) -> tuple[Array, None]:
            _, eps_hat = denoise(z, gamma_s)
            eps = normal_per_image(folded(keys, n), z.shape)
            norm = _norm(eps_hat)
            # The size √δ/σ_s, with ‖ε̂‖ = σ_s ‖g‖.
            size = jnp.sqrt(2.0) * alpha_ts * snr * _norm(eps) / jnp.where(norm > 0, norm, jnp.inf)
            return z + gaussian.sigma(gamma_s) * (jnp.sqrt(2.0) * size * eps - size**2 * eps_hat), None

        alpha_ts, _ = gaussian.transition(gamma_s, gamma_t)
        result = first.step(folded(keys, 0), denoise, z, memory, gamma_t, gamma_s)
        z_s, _ = jax.lax.scan(corrected, result.z, jnp.arange(1, steps + 1))
        return result._replace(z=z_s)

    return Sampler(init=first.init, step=step, calls=first.calls + steps)


def _norm(values: Array) -> Array:
    """The norm of each image, with axes to broadcast against `values`."""
    return jnp.sqrt(jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)), keepdims=True))
