"""Grids of noise levels γ for samplers: arrays of shape (T+1,), from γ(1) down to γ(0), with exact end points.

A `Grid` makes them for a model's γ(t). `schedule` and `quadratic` space steps in the time of that schedule, and for a
discrete model they select some of its own steps. `uniform`, `karras` and `cosine` are uniform in a function of γ
between the same end points, so a model trained with one schedule can be sampled with another. γ may be traced; numbers
of steps are static.
"""

from collections.abc import Callable
from numbers import Real
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vdm.bounds import GammaFn
from vdm.samplers import options


class Gammas(Protocol):
    """Return γ(1) … γ(0) for a schedule t -> γ(t), a number of steps, and, for a discrete model, its T.

    Raises ValueError unless num_steps ≥ 1, and for more steps than the model has if the grid selects from those.
    """

    def __call__(self, gamma: GammaFn, num_steps: int, model_steps: int | None = None) -> Float[Array, " points"]: ...


class Grid(NamedTuple):
    """A way to space noise levels."""

    gammas: Gammas
    own_steps: bool = False
    """Whether the grid of a discrete model consists of some of the model's own T steps, so that it has at most T."""


def schedule() -> Grid:
    """The model's own noise schedule at evenly spaced times, or at the steps of a T-step model nearest to those.

    >>> schedule().gammas(lambda t: 10 * t - 5, 2).tolist()
    [5.0, 0.0, -5.0]
    """
    return _in_time(1)


def quadratic() -> Grid:
    """The noise schedule at squared times, with most steps near the data (Song, Meng & Ermon 2021, App. D.2).

    >>> quadratic().gammas(lambda t: 8 * t - 4, 2).tolist()
    [4.0, -2.0, -4.0]
    """
    return _in_time(2)


def uniform() -> Grid:
    """A grid that is uniform in γ, the negative log-SNR.

    >>> uniform().gammas(lambda t: 8 * t**2 - 4, 2).tolist()
    [4.0, 0.0, -4.0]
    """
    return _between(lambda gamma_0, gamma_1, u, v: v * gamma_0 + u * gamma_1)


def karras(rho: float = 7.0) -> Grid:
    """A grid that is uniform in s^{1/rho} for s = σ/α = e^{γ/2} (Karras et al. 2022, Eq. 5).

    Raises ValueError unless 0 < rho < ∞.

    >>> [round(gamma, 2) for gamma in karras(rho=7.0).gammas(lambda t: 8 * t - 4, 2).tolist()]
    [4.0, 0.56, -4.0]
    """
    if isinstance(rho, bool) or not isinstance(rho, Real) or not 0 < rho < np.inf:
        raise ValueError(f"rho={rho!r}: must be above 0 and finite")

    def level(gamma_0: ArrayLike, gamma_1: ArrayLike, u: Array, v: Array) -> Array:
        ends = jnp.exp(jnp.asarray(gamma_0) / (2 * rho)), jnp.exp(jnp.asarray(gamma_1) / (2 * rho))
        return 2 * rho * jnp.log(v * ends[0] + u * ends[1])

    return _between(level)


def cosine() -> Grid:
    """A grid that is uniform in the angle θ with α = cos θ and σ = sin θ (Nichol & Dhariwal 2021).

    >>> gammas = cosine().gammas(lambda t: 8 * t - 4, 4)
    >>> bool(gammas[0] - gammas[1] > gammas[1] - gammas[2])  # most steps where signal and noise are alike
    True
    """

    def level(gamma_0: ArrayLike, gamma_1: ArrayLike, u: Array, v: Array) -> Array:
        ends = jnp.asarray(gamma_0, jnp.float32), jnp.asarray(gamma_1, jnp.float32)
        # With θ and π/2 − θ computed separately, γ = 2 log(sin θ/sin(π/2 − θ)) is accurate at both ends.
        (theta_0, theta_1), (phi_0, phi_1) = ([jnp.arctan(jnp.exp(sign * end / 2)) for end in ends] for sign in (1, -1))
        return 2 * (jnp.log(jnp.sin(v * theta_0 + u * theta_1)) - jnp.log(jnp.sin(v * phi_0 + u * phi_1)))

    return _between(level)


def grid(gamma: GammaFn, num_steps: int, power: int = 1) -> Float[Array, " points"]:
    """Return γ((i/T)^power) for i = T … 0, the grid of the T-step model.

    T is `num_steps`; with power 1 these are the times of Eq. 3.50 of De Sousa Ribeiro & Glocker (2024). Raises
    ValueError unless num_steps and power are whole numbers ≥ 1 and gamma is a function.

    >>> grid(lambda t: 8 * t - 4, 4).tolist()
    [4.0, 2.0, 0.0, -2.0, -4.0]
    """
    _check_gamma(gamma)
    return jax.vmap(gamma)(_times(num_steps, power))


def subsequence(gamma: GammaFn, num_steps: int, model_steps: int, power: int = 1) -> Float[Array, " points"]:
    """Return γ(i/T) at num_steps + 1 of the indices of a discrete model, from T = model_steps down to 0.

    The indices are the integers nearest to those of `grid`, T (j/num_steps)^power (Wang, §3.2). They are distinct:
    counting up from 0, an index that is already taken is replaced by the next one. The model is thus evaluated only at
    values of γ that it was trained on. Raises ValueError unless 1 ≤ num_steps ≤ model_steps and power ≥ 1.

    >>> subsequence(lambda t: 8 * t - 4, 2, model_steps=4).tolist()
    [4.0, 0.0, -4.0]
    """
    _check_gamma(gamma)
    for name, value in (("num_steps", num_steps), ("model_steps", model_steps), ("power", power)):
        options.check_count(name, value)
    if not 1 <= num_steps <= model_steps:
        raise ValueError(f"num_steps={num_steps}: must be from 1 to {model_steps}, the steps of the model")
    steps, whole = np.arange(num_steps + 1), num_steps**power
    # Rounding in integers, ties upwards. As power ≥ 1, replacing taken indices never goes beyond T.
    nearest = (2 * steps**power * model_steps + whole) // (2 * whole)
    indices = steps + np.maximum.accumulate(nearest - steps)
    return jax.vmap(gamma)(jnp.asarray(indices[::-1].astype(np.float32) / model_steps))


def until(gamma: GammaFn, t: ArrayLike) -> GammaFn:
    """Return the schedule restricted to [0, t] and rescaled to [0, 1], so that its grids start at γ(t), as in SDEdit.

    t may be traced, so one compiled program with a fixed number of steps serves all t. For a discrete model of T steps,
    t = i/T together with `model_steps` = i keeps to the model's own steps.

    >>> uniform().gammas(until(lambda t: 8 * t - 4, 0.5), 2).tolist()
    [0.0, -2.0, -4.0]
    """
    return lambda u: gamma(jnp.asarray(t, jnp.float32) * u)


def zero_terminal_snr(gammas: Float[Array, " points"]) -> Float[Array, " points"]:
    """Replace the first point of a grid by γ = ∞, pure noise without signal (α = 0; Lin et al. 2024).

    This needs a denoiser that returns a `Prediction` at α = 0, as that of a network that predicts x, v, u or F does.

    >>> zero_terminal_snr(jnp.array([4.0, 0.0, -4.0])).tolist()
    [inf, 0.0, -4.0]
    """
    return gammas.at[0].set(jnp.inf)


def _in_time(power: int) -> Grid:
    def gammas(gamma: GammaFn, num_steps: int, model_steps: int | None = None) -> Float[Array, " points"]:
        if model_steps is None:
            return grid(gamma, num_steps, power)
        return subsequence(gamma, num_steps, model_steps, power)

    return Grid(gammas, own_steps=True)


def _between(level: Callable[[Array, Array, Array, Array], Array]) -> Grid:
    """The grid level(γ(0), γ(1), u, 1 − u) for u = 1 … 0, with exact end points."""

    def gammas(gamma: GammaFn, num_steps: int, model_steps: int | None = None) -> Float[Array, " points"]:
        _check_gamma(gamma)
        ends = gamma(jnp.float32(0)), gamma(jnp.float32(1))
        u = _times(num_steps)
        inner = jnp.asarray(level(*ends, u, 1 - u), jnp.float32)
        return inner.at[0].set(ends[1]).at[-1].set(ends[0])

    return Grid(gammas)


def _check_gamma(gamma: GammaFn) -> None:
    if not callable(gamma):
        raise ValueError(
            f"gamma={type(gamma).__name__}: must be a function t -> γ(t), such as partial(schedule.gamma, params)"
        )


def _times(num_steps: int, power: int = 1) -> Float[Array, " points"]:
    options.check_count("num_steps", num_steps)
    options.check_count("power", power)
    return jnp.asarray((np.arange(num_steps, -1, -1) / num_steps) ** power, jnp.float32)
