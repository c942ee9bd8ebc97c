"""DPM-Solver++: multistep data-prediction solvers of the probability-flow ODE and of the reverse SDE."""

import jax.numpy as jnp
from jaxtyping import Array

from vdm import gaussian
from vdm.keys import Keys, normal_per_image
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.exponential import History, advanced, no_history, predicted
from vdm.samplers.loop import Sampler, Step


def dpm_solver_pp(order: int = 2, stochastic: bool = False) -> Sampler:
    """DPM-Solver++ (Lu et al. 2022): integrates a step with x̂ as a polynomial in log-SNR through `order` predictions.

    With h = (γ_t − γ_s)/2 (their λ is half of ours) and D the value of x̂ extrapolated to the middle of the step,

        ODE: z_s = σ_s/σ_t z_t + α_s (1 − e^{−h}) D
        SDE: z_s = σ_s/σ_t e^{−h} z_t + α_s (1 − e^{−2h}) D + σ_s √(1 − e^{−2h}) ε.

    Order 1: D = x̂, which is `ddim(0)`, or `ancestral` for the SDE. Order 2, their 2M and SDE-2M:
    D = x̂ + (x̂ − x̂')/2r, where x̂' is from the step before and r is that step's length divided by this one's. Order 3
    integrates the parabola through three predictions exactly. (The published code uses half of its second derivative,
    and is of order 2.)

    Order of accuracy `order` for the ODE; one network call per step. The first steps, including those after a start
    from γ = ∞, are of lower order because fewer predictions are available. At order 3 this leaves an error O(h²) α²,
    with α at γ(1). Raises ValueError for any other order.

    >>> import jax
    >>> from vdm import samplers
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> sampler = dpm_solver_pp(2)
    >>> samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2)).shape
    (4, 2)
    """
    options.check_choice("order", order, (1, 2, 3))
    options.check_choice("stochastic", stochastic, (False, True))
    rate = 2 if stochastic else 1

    def step(keys: Keys, denoise: Both, z: Array, memory: History, gamma_t: Array, gamma_s: Array) -> Step:
        x_hat, _ = denoise(z, gamma_t)
        history = memory.with_newest(gamma_t, x_hat)
        z_s = advanced(z, gamma_t, gamma_s, predicted(gamma_t, gamma_s, history, rate), rate)
        if stochastic:
            scale = gaussian.sigma(gamma_s) * jnp.sqrt(-jnp.expm1(gamma_s - gamma_t))
            z_s += scale * normal_per_image(keys, z.shape)
        return Step(z_s, x_hat, history.newest(order - 1))

    return Sampler(init=lambda z: no_history(z, order - 1), step=step)
