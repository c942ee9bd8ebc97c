"""Predictor–corrector sampling: after each step, Langevin steps at one noise level that mend the distribution."""

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
    """A predictor, then `steps` of Langevin dynamics at γ_s (Song et al. 2021, Alg. 3 and 5).

    A correction is z ← z + δ g + √(2δ) ε with the score g = −ε̂/σ_s and δ = 2 α²_{t|s} (snr ‖ε‖/‖g‖)², norms an image.
    The predictor is any sampler, `ancestral` unless given. `snr` may be traced. As δ varies with the norms, corrections
    widen the variance by about 4/D in D dimensions: nothing for images, too much for a few numbers. A multistep
    predictor takes what a correction does to x̂ for a slope: its error is then O(h), that of the others.

    First order at best, 1 + steps calls a step (more where the predictor makes more), stochastic. At s = t a correction
    still moves z. From γ = ∞, where α_{t|s} = 0, and where ε̂ = 0 there is none. Raises ValueError unless steps ≥ 1,
    for a Python number snr outside [0, 1], and for a predictor that is no `Sampler`.

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
            # √δ/σ_s.
            size = jnp.sqrt(2.0) * alpha_ts * snr * _norm(eps) / jnp.where(norm > 0, norm, jnp.inf)
            return z + gaussian.sigma(gamma_s) * (jnp.sqrt(2.0) * size * eps - size**2 * eps_hat), None

        alpha_ts, _ = gaussian.transition(gamma_s, gamma_t)
        result = first.step(folded(keys, 0), denoise, z, memory, gamma_t, gamma_s)
        z_s, _ = jax.lax.scan(corrected, result.z, jnp.arange(1, steps + 1))
        return result._replace(z=z_s)

    return Sampler(init=first.init, step=step, calls=first.calls + steps)


def _norm(values: Array) -> Array:
    """‖·‖ of each image, with axes to broadcast against `values`."""
    return jnp.sqrt(jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)), keepdims=True))
