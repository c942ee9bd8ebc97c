"""The noise levels that a training batch sees: proposal densities, with the weights that keep the objective what it is.

The diffusion loss is an integral over noise levels, in continuous time ½ ∫ w(−γ) E‖ε − ε̂‖² dγ. Drawn from any density
p and divided by p it has the same mean; only its variance, and so the speed of training, depends on p: Eq. 4.123 of De
Sousa Ribeiro & Glocker (2024), of whom bare numbers of equations are. `uniform` takes uniform times of the noise
schedule, p(γ) = 1/γ'(t).

All of them map even numbers u ∈ [0, 1), stratified over the global batch, through the inverse of a distribution
function, so the noise levels cover their density evenly. A share `FLOOR` of every density but `uniform` stays uniform,
so that no weight exceeds 1/FLOOR times the uniform one.
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
"""Equal bins of [0, 1] in which `adaptive` and `importance` keep the loss (Kingma & Gao 2023)."""

DECAY = 0.99
"""What is left of a bin's history after a step."""

FLOOR = 0.1
"""Share of every density that stays uniform."""

LEAST_MASS = 1e-3
"""Of a normal density within the end points: in a far tail float32 loses it."""

LEAST_STD = 0.01
"""Of log σ/α: where a density is steeper float32 loses the gradients of end points."""


class NoiseLevels(NamedTuple):
    """Noise levels of a batch, each field (batch,)."""

    t: Array
    density: Array
    """p(t) of the time that each level was drawn at, relative to uniform times."""
    gamma: Array
    weight: Array
    """½ weight ‖ε − ε̂‖² at γ has the diffusion loss as its mean, p divided out."""


class Proposal(NamedTuple):
    """`init`, `draw` and `update`: pure, as an optax transformation is. The state is part of the train state."""

    init: Callable[[], State]
    draw: Callable[[State, Even, bounds.GammaFn, int | None], NoiseLevels]
    """(state, u, t -> γ(t), T or None) -> `NoiseLevels`; differentiable in γ's parameters."""
    update: Callable[[State, NoiseLevels, Array], State]
    """(state, levels, losses) -> state, with the (weighted) losses of the batch at these levels, (batch,)."""
    normal: tuple[float, float] | None = None
    """Mean and standard deviation of γ, if it has a normal density over γ and so needs continuous time."""


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
    """p(t) ∝ the mean weighted loss at t, Eq. 4.130: p(λ) ∝ E[w ‖ε − ε̂‖²]. A moving average in `BINS` bins of t.

    >>> proposal = adaptive()
    >>> levels = proposal.draw(proposal.init(), jnp.array([0.25]), lambda t: 15 * t - 10, None)
    >>> after = proposal.update(proposal.init(), levels, jnp.array([3.0]))
    >>> float(after.total.sum())
    3.0
    """
    return _histogram(1)


def importance() -> Proposal:
    """p(t) ∝ the root of the mean squared weighted loss at t: the least variance (Nichol & Dhariwal 2021, Eq. 18).

    >>> proposal = importance()
    >>> levels = proposal.draw(proposal.init(), jnp.array([0.25]), lambda t: 15 * t - 10, None)
    >>> after = proposal.update(proposal.init(), levels, jnp.array([3.0]))
    >>> float(after.total.sum())
    9.0
    """
    return _histogram(2)


def log_normal(mean: float = -1.2, std: float = 1.2) -> Proposal:
    """log σ/α ~ N(mean, std²), so γ ~ N(2 mean, (2 std)²), within the schedule's end points: EDM (Karras et al. 2022).

    In continuous time only; the end points must leave it `LEAST_MASS` of its mass or more. Raises ValueError unless
    both are finite and std ≥ `LEAST_STD`.

    >>> levels = log_normal().draw({}, jnp.array([0.55]), lambda t: 23.0 * t - 13.0, None)
    >>> bool(jnp.abs(levels.gamma[0] + 2.4) < 0.1)
    True
    """
    return _normal(mean, std)


def logit_normal(mean: float = 0.0, std: float = 1.0) -> Proposal:
    """logit t ~ N(mean, std²) of the flow z ∝ (1 − t) x + t ε, within the end points: Esser et al. (2024), Eq. 19.

    t/(1 − t) = σ/α, so this is `log_normal` with other defaults. Raises ValueError as it does.

    >>> levels = logit_normal().draw({}, jnp.array([0.55]), lambda t: 20.0 * t - 10.0, None)
    >>> bool(jnp.abs(levels.gamma[0]) < 0.1)
    True
    """
    return _normal(mean, std)


def check(proposal: Proposal, gamma_min: float, gamma_max: float, num_steps: int | None) -> None:
    """Raises ValueError for a proposal that a model of these end points, and of so many steps, cannot have."""
    if proposal.normal is None:
        return
    mean, std = proposal.normal
    if num_steps is not None:
        raise ValueError(
            f"num_steps={num_steps}: a density over γ is for continuous time; must be None, or the proposal one over "
            "times, such as uniform"
        )
    # Not with jax: a config is checked before the devices are set up.
    low, high = scipy.special.ndtr((np.array([gamma_min, gamma_max]) - mean) / std)
    if (mass := high - low) < LEAST_MASS:
        raise ValueError(
            f"γ ~ N({mean:g}, {std:g}²) has {mass:.1g} of its mass from gamma_min={gamma_min} to "
            f"gamma_max={gamma_max}; must be {LEAST_MASS} or more"
        )


class Histogram(NamedTuple):
    """Sums over the batches so far, each batch counting `DECAY` times the next one; (BINS,)."""

    total: Array
    """Of the losses to the power of the proposal."""
    draws: Array
    """Of 1 a draw."""


def probabilities(state: Histogram, power: int) -> Float[Array, " bins"]:
    """Of each bin: ∝ (mean of the loss to the power)^{1/power}, mixed with `FLOOR` of uniform ones; uniform at first.

    Each bin's mean counts one draw of the overall mean as well: the answer where there was none yet.
    """
    overall = jnp.sum(state.total) / jnp.maximum(jnp.sum(state.draws), 1e-30)
    mean = ((state.total + overall) / (state.draws + 1)) ** (1 / power)
    # Without losses all bins are alike, also where they are all 0.
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
        # The loss as it is at uniform times, without 1/p.
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
        # u below FLOOR are uniform draws, the others normal ones; the weight is that of the mixture for both.
        levels = jnp.where(
            u < FLOOR,
            ends[0] + (ends[1] - ends[0]) * (u / FLOOR),
            truncated_normal((u - FLOOR) / (1 - FLOOR), 2 * mean, 2 * std, *ends),
        )
        density = (1 - FLOOR) * truncated_normal_density(levels, 2 * mean, 2 * std, *ends) + FLOOR / (ends[1] - ends[0])
        return NoiseLevels(u, jnp.ones_like(u), levels, 1 / density)

    return Proposal(dict, draw, lambda state, levels, losses: state, (2 * mean, 2 * std))


def truncated_normal(u: Array, mean: float, std: float, low: Array, high: Array) -> Array:
    """F⁻¹(u) of N(mean, std²) kept within [low, high], with the shape of u; accurate in both tails."""
    a, b = (low - mean) / std, (high - mean) / std
    u = jnp.clip(u, 0.0, 1.0)
    below, above = ndtr(a) + (ndtr(b) - ndtr(a)) * u, ndtr(-a) + (ndtr(-b) - ndtr(-a)) * u
    # From the tail that is nearer, for 1 − p has no digits of a small p; the other one is kept from infinity.
    lower, upper = (ndtri(jnp.clip(tail, 1e-37, 0.5)) for tail in (below, above))
    return jnp.clip(mean + std * jnp.where(below < above, lower, -upper), low, high)


def truncated_normal_density(x: Array, mean: float, std: float, low: Array, high: Array) -> Array:
    """Of the normal distribution truncated to [low, high], at x within."""
    normal = jnp.exp(-0.5 * jnp.square((x - mean) / std)) / (std * np.sqrt(2 * np.pi))
    return normal / _mass(mean, std, low, high)


def _mass(mean: float, std: float, low: Array, high: Array) -> Array:
    """Of N(mean, std²) in [low, high], by the nearer tail."""
    a, b = (low - mean) / std, (high - mean) / std
    return jnp.where(a > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))
