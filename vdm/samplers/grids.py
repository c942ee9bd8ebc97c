"""Grids of noise levels γ that a sampler goes down: shape (T+1,), from γ(1) to γ(0), both exact.

`grid` and `quadratic` are in the time of the model's own schedule, `subsequence` is either of them from the steps of a
discrete model; `uniform`, `karras` and `cosine` are uniform in a function of γ between the same end points, so that a
model trained with one schedule is sampled with another. End points may be traced; the number of steps is static.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vdm.bounds import GammaFn

POWERS = {"schedule": 1, "quadratic": 2}
"""The grids in the time of the model's own schedule, as configs call them: t = (i/T)^power."""

GRIDS = (*POWERS, "uniform", "karras", "cosine")
"""What configs call the grids."""


def grid(gamma: GammaFn, num_steps: int, power: int = 1) -> Float[Array, " points"]:
    """γ((i/T)^power) for i = T … 0: the grid of the T-step model. ValueError unless num_steps ≥ 1 and power ≥ 1."""
    return jax.vmap(gamma)(_times(num_steps, power))


def quadratic(gamma: GammaFn, num_steps: int) -> Float[Array, " points"]:
    """γ((i/T)²) for i = T … 0, most steps near the data (Song, Meng & Ermon 2021, App. D.2): `grid` of power 2."""
    return grid(gamma, num_steps, POWERS["quadratic"])


def subsequence(gamma: GammaFn, num_steps: int, model_steps: int, power: int = 1) -> Float[Array, " points"]:
    """`grid` of num_steps of the steps of a discrete model: γ(i/T) at indices i from T = model_steps down to 0.

    The indices are the whole numbers nearest to those of the grid, T (j/num_steps)^power (Wang, §3.2), and distinct:
    from 0 up, one that is taken gives way to the next. The model has then seen every γ that it is asked at. Raises
    ValueError unless 1 ≤ num_steps ≤ model_steps and power ≥ 1.
    """
    _check_power(power)
    if not 1 <= num_steps <= model_steps:
        raise ValueError(f"num_steps={num_steps}: must be from 1 to {model_steps}, the steps of the model")
    steps, whole = np.arange(num_steps + 1), num_steps**power
    # Of two nearest the upper, in whole numbers. As power ≥ 1, giving way ends at T at the latest.
    nearest = (2 * steps**power * model_steps + whole) // (2 * whole)
    indices = steps + np.maximum.accumulate(nearest - steps)
    return jax.vmap(gamma)(jnp.asarray(indices[::-1].astype(np.float32) / model_steps))


def uniform(gamma_0: ArrayLike, gamma_1: ArrayLike, num_steps: int) -> Float[Array, " points"]:
    """Uniform in γ, the log-SNR. Raises ValueError unless num_steps ≥ 1."""
    return _between(gamma_0, gamma_1, lambda u, v: v * gamma_0 + u * gamma_1, num_steps)


def karras(gamma_0: ArrayLike, gamma_1: ArrayLike, num_steps: int, rho: float = 7.0) -> Float[Array, " points"]:
    """Uniform in s^{1/rho} for s = σ/α = e^{γ/2}, Eq. 5 of Karras et al. (2022). ValueError unless num_steps ≥ 1."""
    ends = jnp.exp(jnp.asarray(gamma_0) / (2 * rho)), jnp.exp(jnp.asarray(gamma_1) / (2 * rho))
    return _between(gamma_0, gamma_1, lambda u, v: 2 * rho * jnp.log(v * ends[0] + u * ends[1]), num_steps)


def cosine(gamma_0: ArrayLike, gamma_1: ArrayLike, num_steps: int) -> Float[Array, " points"]:
    """Uniform in the angle θ with α = cos θ, σ = sin θ (Nichol & Dhariwal 2021). ValueError unless num_steps ≥ 1."""
    ends = jnp.asarray(gamma_0, jnp.float32), jnp.asarray(gamma_1, jnp.float32)
    # θ and π/2 − θ apart: γ = 2 log(sin θ/sin(π/2 − θ)) is accurate at both ends.
    (theta_0, theta_1), (phi_0, phi_1) = ([jnp.arctan(jnp.exp(sign * end / 2)) for end in ends] for sign in (1, -1))

    def level(u: Array, v: Array) -> Array:
        return 2 * (jnp.log(jnp.sin(v * theta_0 + u * theta_1)) - jnp.log(jnp.sin(v * phi_0 + u * phi_1)))

    return _between(gamma_0, gamma_1, level, num_steps)


def zero_terminal_snr(gammas: Float[Array, " points"]) -> Float[Array, " points"]:
    """The grid from pure noise: γ = ∞ (α = 0, no signal at all) in place of its first point (Lin et al. 2024).

    For a denoiser that answers with a `Prediction` at α = 0: of a network that predicts x, v, u or F.
    """
    return gammas.at[0].set(jnp.inf)


def _between(
    gamma_0: ArrayLike, gamma_1: ArrayLike, level: Callable[[Array, Array], Array], num_steps: int
) -> Float[Array, " points"]:
    """level(u, 1 − u) for u = 1 … 0, with exact ends."""
    u = _times(num_steps)
    inner = jnp.asarray(level(u, 1 - u), jnp.float32)
    return inner.at[0].set(gamma_1).at[-1].set(gamma_0)


def _check_power(power: int) -> None:
    if power < 1:
        raise ValueError(f"power={power}: must be 1 or more")


def _times(num_steps: int, power: int = 1) -> Float[Array, " points"]:
    _check_power(power)
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps}: must be 1 or more")
    return jnp.asarray((np.arange(num_steps, -1, -1) / num_steps) ** power, jnp.float32)
