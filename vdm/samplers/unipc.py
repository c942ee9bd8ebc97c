"""UniPC: a multistep predictor whose every network call also corrects the step before it."""

import jax.numpy as jnp
from jaxtyping import Array

from vdm.keys import Keys
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.exponential import History, advanced, integrated, no_history, predicted
from vdm.samplers.loop import Sampler, Step


def unipc(order: int = 2) -> Sampler:
    """UniPC-p (Zhao et al. 2023, data prediction): DPM-Solver++ of order p, corrected to p + 1 without extra calls.

    A step first corrects its starting point: it evaluates x̂ at the predicted z_t, and repeats the step to γ_t with the
    polynomial through that x̂ and p earlier ones, integrated exactly. From there it predicts z_s. The last point, z₀, is
    not corrected. For p ≥ 2 this is the paper's corrector for any B(h), and for p = 2 the predictor is that of
    B₂(h) = e^h − 1; for p = 1 and in the first steps, the paper has ½ B(h) in place of an integral of the same order.

    Order of accuracy p + 1 except in the first steps, deterministic, one network call per step. It can start from γ = ∞
    with steps of lower order, as `dpm_solver_pp` does. Raises ValueError unless the order is 1, 2 or 3.

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
        # Only the drift of the repeated step to γ_t differs. Add the difference: z may have been moved since.
        correction = integrated(before, gamma_t, history) - predicted(before, gamma_t, memory)
        z += jnp.where(jnp.isfinite(before), correction, 0)
        history = history.newest(order)
        return Step(advanced(z, gamma_t, gamma_s, predicted(gamma_t, gamma_s, history)), x_hat, history)

    return Sampler(init=lambda z: no_history(z, order), step=step)
