"""Noise schedules γ(t) = −log SNR(t) on t ∈ [0, 1]: pairs of pure functions (init, gamma).

A schedule is increasing, and γ(0) and γ(1) are exact in float32 for every value of its parameters. Fixed schedules have
no parameters ({}). Learned schedules parametrize their end points and their shape separately:

    γ(t) = γ(0) (1 − h(t)) + γ(1) h(t),        h(0) = 0, h(1) = 1, h increasing,

because in continuous time the bound depends on the end points alone, Eq. 4.80 of De Sousa Ribeiro & Glocker (2024)
(Kingma et al. 2021, Eq. 18). The shape only changes the variance of the bound's Monte Carlo estimate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

Params = Any
Time = Float[ArrayLike, ""] | Float[Array, " batch"]


class Schedule(NamedTuple):
    """`init(key) -> params` and `gamma(params, t) -> γ(t)`: float32, with the shape of t, scalar or (batch,)."""

    init: Callable[[PRNGKeyArray], Params]
    gamma: Callable[[Params, Time], Array]


def gamma_and_slope(schedule: Schedule, params: Params, t: Time) -> tuple[Array, Array]:
    """Return (γ(t), dγ/dt), each with the shape of t, by forward-mode differentiation.

    >>> gamma, slope = gamma_and_slope(linear(-10.0, 5.0), {}, 0.5)
    >>> float(gamma), float(slope)
    (-2.5, 15.0)
    """
    return value_and_slope(lambda t: schedule.gamma(params, t), t)


def value_and_slope(f: Callable[[Array], Array], t: Time) -> tuple[Array, Array]:
    """Return (f(t), f'(t)) of an elementwise function, each with the shape of t, by forward-mode differentiation."""
    t = jnp.asarray(t, jnp.float32)
    return jax.jvp(f, (t,), (jnp.ones_like(t),))


def linear(gamma_min: float = -13.3, gamma_max: float = 5.0) -> Schedule:
    """Schedule with γ linear in t, from `gamma_min` to `gamma_max`.

    >>> schedule = linear(-10.0, 5.0)
    >>> float(schedule.gamma({}, 0.5))
    -2.5
    """
    _check_range(gamma_min, gamma_max)
    return _fixed(lambda t: _between(gamma_min, gamma_max, t), gamma_min, gamma_max)


def cosine(gamma_min: float = -13.3, gamma_max: float = 5.0) -> Schedule:
    """Cosine schedule (Nichol & Dhariwal 2021): α = cos(πτ/2), σ = sin(πτ/2).

    γ = 2 log tan(πτ/2), §4.5, where τ is rescaled so that γ runs from `gamma_min` at t = 0 to `gamma_max` at t = 1.

    >>> schedule = cosine(-10.0, 5.0)
    >>> [float(schedule.gamma({}, t)) for t in (0.0, 1.0)]
    [-10.0, 5.0]
    """
    return shifted_cosine(gamma_min, gamma_max, shift=0.0)


def shifted_cosine(gamma_min: float = -13.3, gamma_max: float = 5.0, shift: float = 0.0) -> Schedule:
    """Cosine schedule with γ shifted by a constant (Hoogeboom et al. 2023), between the same end points.

    γ = 2 log tan(πτ/2) + `shift`. For images of side d the paper uses the shift 2 log(d/64): larger images get more
    noise. Raises ValueError unless −30 ≤ shift ≤ 30.

    >>> less, more = shifted_cosine(-10.0, 5.0, shift=-2.0), shifted_cosine(-10.0, 5.0, shift=2.0)
    >>> bool(less.gamma({}, 0.5) < more.gamma({}, 0.5))
    True
    """
    _check_range(gamma_min, gamma_max)
    if not -30 <= shift <= 30:
        raise ValueError(f"shift={shift}: must be from -30 to 30")
    # θ = πτ/2 and its complement π/2 − θ are interpolated separately, so that tan stays accurate at both ends.
    theta_0, theta_1 = (float(np.arctan(np.exp((g - shift) / 2))) for g in (gamma_min, gamma_max))
    phi_0, phi_1 = (float(np.arctan(np.exp((shift - g) / 2))) for g in (gamma_min, gamma_max))

    def gamma(t: Array) -> Array:
        sin, cos = jnp.sin(_between(theta_0, theta_1, t)), jnp.sin(_between(phi_0, phi_1, t))
        return 2 * (jnp.log(sin) - jnp.log(cos)) + shift

    return _fixed(gamma, gamma_min, gamma_max)


def beta_linear(gamma_min: float = -13.3, gamma_max: float = 5.0) -> Schedule:
    """DDPM's linear-β schedule (Ho et al. 2020) in continuous time, with β from 0.1 to 20.

    In time τ, B(τ) = −log α² = 0.1 τ + ½ (20 − 0.1) τ² and γ = log expm1(B), so B = softplus(γ). t ∈ [0, 1] maps
    linearly to the interval of τ on which γ runs from `gamma_min` to `gamma_max`: DDPM's γ is cut off at these values,
    not rescaled to them.

    >>> schedule = beta_linear(-10.0, 5.0)
    >>> [float(schedule.gamma({}, t)) for t in (0.0, 1.0)]
    [-10.0, 5.0]
    """
    _check_range(gamma_min, gamma_max)
    beta_0, beta_1 = 0.1, 20.0
    half = (beta_1 - beta_0) / 2

    def tau(gamma: float) -> float:
        """Positive root of half τ² + beta_0 τ = softplus(gamma), computed without cancellation."""
        b = float(np.logaddexp(0.0, gamma))
        return 2 * b / (beta_0 + float(np.sqrt(beta_0**2 + 4 * half * b)))

    tau_0, tau_1 = tau(gamma_min), tau(gamma_max)

    def gamma(t: Array) -> Array:
        u = _between(tau_0, tau_1, t)
        b = u * (beta_0 + half * u)
        # log expm1(b), in a form that is accurate for small b and does not overflow for large b.
        return b + jnp.log(-jnp.expm1(-b))

    return _fixed(gamma, gamma_min, gamma_max)


def learned_linear(gamma_min: float = -13.3, gamma_max: float = 5.0) -> Schedule:
    """Schedule with γ linear in t and both end points learned, initialized to `gamma_min` and `gamma_max`.

    Parameters: {"ends": …}, see `end_points`.

    >>> schedule = learned_linear(-10.0, 5.0)
    >>> params = schedule.init(jax.random.key(0))
    >>> schedule.gamma(params, jnp.array([0.0, 0.5, 1.0])).tolist()
    [-10.0, -2.5, 5.0]
    """
    init_ends, ends = end_points(gamma_min, gamma_max)

    def gamma(params: Params, t: Time) -> Array:
        return _between(*ends(params["ends"]), jnp.asarray(t, jnp.float32))

    return Schedule(lambda key: {"ends": init_ends()}, gamma)


def learned_monotone(gamma_min: float = -13.3, gamma_max: float = 5.0, hidden: int = 1024) -> Schedule:
    """Schedule with learned end points and a learned monotone shape (§A.2), a normalized network of `hidden` units.

    Parameters: {"ends": …, "shape": …}, see `end_points` and `monotone_shape`.

    >>> schedule = learned_monotone(-10.0, 5.0, hidden=8)
    >>> params = schedule.init(jax.random.key(0))
    >>> bool(jnp.all(jnp.diff(schedule.gamma(params, jnp.linspace(0.0, 1.0, 9))) > 0))
    True
    """
    init_ends, ends = end_points(gamma_min, gamma_max)
    init_shape, shape = monotone_shape(hidden)

    def gamma(params: Params, t: Time) -> Array:
        return _between(*ends(params["ends"]), shape(params["shape"], jnp.asarray(t, jnp.float32)))

    return Schedule(lambda key: {"ends": init_ends(), "shape": init_shape(key)}, gamma)


def end_points(
    gamma_min: float, gamma_max: float
) -> tuple[Callable[[], Params], Callable[[Params], tuple[Array, Array]]]:
    """Return (init, ends) of separately learned end points γ(0) < γ(1), one on each side of their fixed midpoint m.

    γ(0) = m − softplus(below) and γ(1) = m + softplus(above): each moves independently of the other, and they never
    meet.
    """
    _check_range(gamma_min, gamma_max)
    middle, half = (gamma_min + gamma_max) / 2, (gamma_max - gamma_min) / 2

    def init() -> Params:
        inverse_softplus = half + np.log(-np.expm1(-half))
        return {"below": jnp.full((), inverse_softplus), "above": jnp.full((), inverse_softplus)}

    def ends(params: Params) -> tuple[Array, Array]:
        return middle - jax.nn.softplus(params["below"]), middle + jax.nn.softplus(params["above"])

    return init, ends


# Minimum weight of the straight line in a learned shape, so that h'(t) ≥ FLOOR for any parameters.
FLOOR = 0.01


def monotone_shape(hidden: int) -> tuple[Callable[[PRNGKeyArray], Params], Callable[[Params, Array], Array]]:
    """Return (init, shape) of an increasing h(t) with h(0) = 0 and h(1) = 1 exactly, for any parameters.

    h is a straight line plus one hidden layer of sigmoids with positive slopes a_k and positive output weights w_k
    (§A.2): n(t) = w_0 t + Σ_k w_k [sigmoid(a_k t + b_k) − sigmoid(b_k)] and h = n(t)/n(1). The weights are a softmax,
    of which a share `FLOOR` is replaced by the straight line. Hence n(1) ≥ FLOOR, so the division is safe, and
    h' ≥ FLOOR. Raises ValueError unless hidden ≥ 1.
    """
    if hidden < 1:
        raise ValueError(f"hidden={hidden}: must be 1 or more")

    def init(key: PRNGKeyArray) -> Params:
        # Start at nine tenths straight line; the sigmoids, with slopes of about 10, are spread over [0, 1].
        center = jax.random.uniform(key, (hidden,))
        slope = jnp.full((hidden,), 10.0, jnp.float32)
        return {
            "slope": slope,
            "bias": -slope * center,
            "line": jnp.float32(np.log(9.0)),
            "weight": jnp.full((hidden,), -np.log(hidden), jnp.float32),
        }

    def shape(params: Params, t: Array) -> Array:
        weights = jax.nn.softmax(jnp.concatenate([params["line"].reshape(1), params["weight"]]))
        a, b = jax.nn.softplus(params["slope"]), params["bias"]

        def rise(t: Array) -> Array:
            units = jax.nn.sigmoid(a * t + b) - jax.nn.sigmoid(b)
            # A sum instead of a matrix product, which a TPU would compute in bfloat16.
            return FLOOR * t + (1 - FLOOR) * (weights[0] * t + jnp.sum(weights[1:] * units))

        return _pin(jnp.vectorize(rise)(t) / rise(jnp.float32(1)), t, 0.0, 1.0)

    return init, shape


def _between(gamma_0: Array | float, gamma_1: Array | float, h: Array) -> Array:
    """γ(0) + (γ(1) − γ(0)) h, exact at h = 0 and h = 1. Its slope has the sign of h', however close the end points."""
    return _pin(gamma_0 + (gamma_1 - gamma_0) * h, h, gamma_0, gamma_1)


def _fixed(gamma: Callable[[Array], Array], gamma_min: float, gamma_max: float) -> Schedule:
    """A schedule without parameters, with exact end points."""

    def pinned(params: Params, t: Time) -> Array:
        t = jnp.asarray(t, jnp.float32)
        return _pin(gamma(t), t, gamma_min, gamma_max)

    return Schedule(lambda key: {}, pinned)


def _pin(value: Array, t: Array, end_0: Array | float, end_1: Array | float) -> Array:
    """Replace `value` by the exact end points at t = 0 and t = 1, leaving its derivatives unchanged."""
    exact = jnp.where(t == 0, end_0, jnp.where(t == 1, end_1, value))
    return value + jax.lax.stop_gradient(exact - value)


def _check_range(gamma_min: float, gamma_max: float) -> None:
    if not gamma_min < gamma_max:
        raise ValueError(f"gamma_max={gamma_max}: must be above gamma_min={gamma_min}")
