"""UniPC: a multistep predictor whose next network call also corrects the step behind it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm.keys import Keys
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.exponential import History, integrated, no_history, predicted
from vdm.samplers.loop import Sampler, Step


class _Memory(NamedTuple):
    z: Float[Array, "batch *data"]
    """Where the last step began, corrected."""
    history: History


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

    def step(keys: Keys, denoise: Both, z: Array, memory: _Memory, gamma_t: Array, gamma_s: Array) -> Step:
        x_hat, _ = denoise(z, gamma_t)
        history = memory.history.with_newest(gamma_t, x_hat)
        before = memory.history.gammas[0]
        z = jnp.where(jnp.isfinite(before), integrated(memory.z, before, gamma_t, history), z)
        z_s = predicted(z, gamma_t, gamma_s, history.newest(order))
        return Step(z_s, x_hat, _Memory(z, history.newest(order)))

    return Sampler(init=lambda z: _Memory(jnp.zeros_like(z), no_history(z, order)), step=step)
