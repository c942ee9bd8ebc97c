"""UniPC: a multistep predictor whose next network call also corrects the step behind it."""

import jax.numpy as jnp
from jaxtyping import Array

from vdm.keys import Keys
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.exponential import History, advanced, integrated, no_history, predicted
from vdm.samplers.loop import Sampler, Step


def unipc(order: int = 2) -> Sampler:
    """UniPC-p (Zhao et al. 2023, data prediction): DPM-Solver++ of order p, corrected to p + 1 at no more calls.

    A step first corrects where it begins: x̂ is called at the predicted z_t, and the step to γ_t is made anew with the
    polynomial through that x̂ and p more, integrated exactly; from there it predicts z_s. z₀ stays as predicted. For
    p ≥ 2 this is the paper's corrector whatever its B(h), and for p = 2 the predictor is that of B₂(h) = e^h − 1; for
    p = 1 and in the first steps the paper has ½ B(h) for an integral of the same order.

    Of order p + 1 but for the first steps, deterministic, one call a step. Starts from γ = ∞ with steps of lower order,
    as `dpm_solver_pp`. Raises ValueError unless the order is 1, 2 or 3.

    >>> import jax
    >>> from vdm import samplers
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> sampler = unipc(2)
    >>> samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2)).shape
    (4, 2)
    """
    options.check_choice("order", order, (1, 2, 3))

    def step(keys: Keys, denoise: Both, z: Array, memory: History, gamma_t: Array, gamma_s: Array) -> Step:
        x_hat, _ = denoise(z, gamma_t)
        history = memory.with_newest(gamma_t, x_hat)
        before = memory.gammas[0]
        # The step to γ_t made anew differs by its drift alone: z may have been moved since.
        correction = integrated(before, gamma_t, history) - predicted(before, gamma_t, memory)
        z += jnp.where(jnp.isfinite(before), correction, 0)
        history = history.newest(order)
        return Step(advanced(z, gamma_t, gamma_s, predicted(gamma_t, gamma_s, history)), x_hat, history)

    return Sampler(init=lambda z: no_history(z, order), step=step)
