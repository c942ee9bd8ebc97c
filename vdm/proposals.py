"""Proposal densities: the noise levels of a training batch, with the weights that keep the objective unchanged.

The diffusion loss is an integral over noise levels, in continuous time ½ ∫ w(−γ) E‖ε − ε̂‖² dγ. With noise levels drawn
from any density p, and the integrand divided by p, its estimate has the same mean; only its variance, and so the speed
of training, depends on p: Eq. 4.123 of De Sousa Ribeiro & Glocker (2024), whose equations are cited by number alone.
`uniform` uses uniform times of the noise schedule, p(γ) = 1/γ'(t).

All proposals map evenly spaced numbers u ∈ [0, 1), stratified over the global batch, through an inverse distribution
function, so that the noise levels cover their density evenly. Every density except `uniform` is mixed with a share
`FLOOR` of the uniform one, so that no weight exceeds 1/FLOOR times the uniform one's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float

from vdm import bounds, timesteps

State = Any
Even = Float[Array, " batch"]

BINS = 100
"""Number of equal bins of [0, 1] in which `adaptive` and `importance` track the loss (Kingma & Gao 2023)."""

DECAY = 0.99
"""Factor by which a bin's history decays at each step."""

FLOOR = 0.1
"""Share of the uniform density in every proposal."""

LEAST_MASS = 1e-3
"""Least mass that a normal density must have between the end points: float32 cannot represent its far tails."""

LEAST_STD = 0.01
"""Least standard deviation of log σ/α: for steeper densities, float32 gradients of the end points are lost."""


class NoiseLevels(NamedTuple):
    """Noise levels of a batch. Each field has shape (batch,)."""

    t: Array
    density: Array
    """p(t) of the time at which each level was drawn, relative to uniform times."""
    gamma: Array
    weight: Array
    """Weight, with 1/p included: the mean of ½ weight ‖ε − ε̂‖² at γ is the diffusion loss."""


class Proposal(NamedTuple):
    """Pure functions `init`, `draw` and `update`, as in an optax transformation; its state is in the train state."""

    init: Callable[[], State]
    draw: Callable[[State, Even, bounds.GammaFn, int | None], NoiseLevels]
    """(state, u, t -> γ(t), T or None) -> `NoiseLevels`, differentiable with respect to the parameters of γ."""
    update: Callable[[State, NoiseLevels, Array], State]
    """(state, levels, losses) -> state, given the weighted losses of the batch at these levels, (batch,)."""
    normal: tuple[float, float] | None = None
    """Mean and standard deviation of γ, for a proposal that is normal in γ and so needs continuous time; else None."""


def uniform() -> Proposal:
    """Uniform times of the schedule, so that p(λ) = −dt/dλ, Eq. 4.102.

    >>> levels = uniform().draw({}, jnp.array([0.25]), lambda t: 15 * t - 10, None)
    >>> float(levels.gamma[0]), float(levels.weight[0])
    (-6.25, 15.0)
    """

    def draw(state: State, u: Even, gamma: bounds.GammaFn, num_steps: int | None) -> NoiseLevels:
        return NoiseLevels(u, jnp.ones_like(u), *bounds.noise_levels(gamma, u, num_steps))

    return Proposal(dict, draw, lambda state, levels, losses: state)


def adaptive() -> Proposal:
    """Proposal proportional to the weighted loss: p(t) ∝ its mean at t, Eq. 4.130, i.e. p(λ) ∝ E[w ‖ε − ε̂‖²].

    The mean is a moving average in `BINS` bins of t.

    >>> proposal = adaptive()
    >>> levels = proposal.draw(proposal.init(), jnp.array([0.25]), lambda t: 15 * t - 10, None)
    >>> after = proposal.update(proposal.init(), levels, jnp.array([3.0]))
    >>> float(after.total.sum())
    3.0
    """
    return _histogram(1)


def importance() -> Proposal:
    """Proposal of least variance (Nichol & Dhariwal 2021, Eq. 18).

    p(t) ∝ the root mean square of the weighted loss at t, a moving average in `BINS` bins of t.

    >>> proposal = importance()
    >>> levels = proposal.draw(proposal.init(), jnp.array([0.25]), lambda t: 15 * t - 10, None)
    >>> after = proposal.update(proposal.init(), levels, jnp.array([3.0]))
    >>> float(after.total.sum())
    9.0
    """
    return _histogram(2)


def log_normal(mean: float = -1.2, std: float = 1.2) -> Proposal:
    """Proposal of EDM (Karras et al. 2022): log σ/α ~ N(mean, std²), truncated to the schedule's end points.

    So γ ~ N(2 mean, (2 std)²). Continuous time only; at least `LEAST_MASS` of the mass must lie between the end points.
    Raises ValueError unless both parameters are finite and std ≥ `LEAST_STD`.

    >>> levels = log_normal().draw({}, jnp.array([0.55]), lambda t: 23.0 * t - 13.0, None)
    >>> bool(jnp.abs(levels.gamma[0] + 2.4) < 0.1)
    True
    """
    return _normal(mean, std)


def logit_normal(mean: float = 0.0, std: float = 1.0) -> Proposal:
    """Proposal of Esser et al. (2024), Eq. 19: logit t ~ N(mean, std²) in the flow z ∝ (1 − t) x + t ε, truncated.

    t/(1 − t) = σ/α, so this is `log_normal` with other defaults, and raises ValueError as it does.

    >>> levels = logit_normal().draw({}, jnp.array([0.55]), lambda t: 20.0 * t - 10.0, None)
    >>> bool(jnp.abs(levels.gamma[0]) < 0.1)
    True
    """
    return _normal(mean, std)


def check(proposal: Proposal, gamma_min: float, gamma_max: float, num_steps: int | None) -> None:
    """Raise ValueError for a proposal that a model with these end points and this number of steps cannot use."""
    if proposal.normal is None:
        return
    mean, std = proposal.normal
    if num_steps is not None:
        raise ValueError(
            f"num_steps={num_steps}: a density over γ needs continuous time; must be None, or the proposal one over "
            "times, such as uniform"
        )
    # SciPy and not JAX: a config is checked before the devices are set up.
    low, high = scipy.special.ndtr((np.array([gamma_min, gamma_max]) - mean) / std)
    if (mass := high - low) < LEAST_MASS:
        raise ValueError(
            f"γ ~ N({mean:g}, {std:g}²) has {mass:.1g} of its mass from gamma_min={gamma_min} to "
            f"gamma_max={gamma_max}; must be {LEAST_MASS} or more"
        )


class Histogram(NamedTuple):
    """Sums per bin over the batches so far, which decay by `DECAY` per batch; (BINS,)."""

    total: Array
    """Sum of the losses, each raised to the power of the proposal."""
    draws: Array
    """Number of draws."""


def probabilities(state: Histogram, power: int) -> Float[Array, " bins"]:
    """Return each bin's probability: ∝ (mean of loss^power)^{1/power}, mixed with a share `FLOOR` of the uniform one.

    Each bin's mean includes one extra draw at the overall mean, which decides for bins without draws. Without any
    losses the probabilities are uniform.
    """
    overall = jnp.sum(state.total) / jnp.maximum(jnp.sum(state.draws), 1e-30)
    mean = ((state.total + overall) / (state.draws + 1)) ** (1 / power)
    # Uniform as long as there are no losses, or only losses of 0.
    mean = jnp.where(jnp.sum(mean) > 0, mean, 1.0)
    return (1 - FLOOR) * mean / jnp.sum(mean) + FLOOR / mean.size


def _histogram(power: int) -> Proposal:
    def init() -> Histogram:
        return Histogram(jnp.zeros(BINS), jnp.zeros(BINS))

    def draw(state: Histogram, u: Even, gamma: bounds.GammaFn, num_steps: int | None) -> NoiseLevels:
        t, density = timesteps.importance(u, probabilities(state, power))
        gamma_t, weight = bounds.noise_levels(gamma, t, num_steps)
        return NoiseLevels(t, density, gamma_t, weight / density)

    def update(state: Histogram, levels: NoiseLevels, losses: Array) -> Histogram:
        k = jnp.minimum((levels.t * BINS).astype(jnp.int32), BINS - 1)
        # Take out the factor 1/p: the loss as it would be at uniform times.
        moments = (losses * levels.density) ** power
        return Histogram((DECAY * state.total).at[k].add(moments), (DECAY * state.draws).at[k].add(1.0))

    return Proposal(init, draw, update)


def _normal(mean: float, std: float) -> Proposal:
    if not np.isfinite(mean):
        raise ValueError(f"mean={mean}: must be finite")
    if not LEAST_STD <= std < np.inf:
        raise ValueError(f"std={std}: must be {LEAST_STD} or more and finite")

    def draw(state: State, u: Even, gamma: bounds.GammaFn, num_steps: int | None) -> NoiseLevels:
        if num_steps is not None:
            raise ValueError(f"num_steps={num_steps}: must be None, continuous time, for a density over γ")
        ends = gamma(jnp.float32(0)), gamma(jnp.float32(1))
        # u below FLOOR give uniform draws, the others normal ones; both are weighted by the density of the mixture.
        levels = jnp.where(
            u < FLOOR,
            ends[0] + (ends[1] - ends[0]) * (u / FLOOR),
            truncated_normal((u - FLOOR) / (1 - FLOOR), 2 * mean, 2 * std, *ends),
        )
        density = (1 - FLOOR) * truncated_normal_density(levels, 2 * mean, 2 * std, *ends) + FLOOR / (ends[1] - ends[0])
        return NoiseLevels(u, jnp.ones_like(u), levels, 1 / density)

    return Proposal(dict, draw, lambda state, levels, losses: state, (2 * mean, 2 * std))


def truncated_normal(u: Array, mean: float, std: float, low: Array, high: Array) -> Array:
    """Return F⁻¹(u) of N(mean, std²) truncated to [low, high], with the shape of u; accurate in both tails."""
    a, b = (low - mean) / std, (high - mean) / std
    u = jnp.clip(u, 0.0, 1.0)
    below, above = ndtr(a) + (ndtr(b) - ndtr(a)) * u, ndtr(-a) + (ndtr(-b) - ndtr(-a)) * u
    # Computed from the nearer tail, because 1 − p loses the digits of a small p; the clip keeps the other one finite.
    lower, upper = (ndtri(jnp.clip(tail, 1e-37, 0.5)) for tail in (below, above))
    return jnp.clip(mean + std * jnp.where(below < above, lower, -upper), low, high)


def truncated_normal_density(x: Array, mean: float, std: float, low: Array, high: Array) -> Array:
    """Density of N(mean, std²) truncated to [low, high], at x in this interval."""
    normal = jnp.exp(-0.5 * jnp.square((x - mean) / std)) / (std * np.sqrt(2 * np.pi))
    return normal / _mass(mean, std, low, high)


def _mass(mean: float, std: float, low: Array, high: Array) -> Array:
    """Mass of N(mean, std²) in [low, high], computed from the nearer tail."""
    a, b = (low - mean) / std, (high - mean) / std
    return jnp.where(a > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))
