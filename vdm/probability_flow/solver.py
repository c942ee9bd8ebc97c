"""The ODE solver, on diffrax: steps in γ in either direction, separate for each example, with batched network calls."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.typing import ArrayLike
from jaxtyping import Array

from vdm import gaussian

FIRST_STEP = 0.1
"""Size of the first step in γ."""

MIN_STEP = 1e-5
"""Smallest step in γ: a solve that needs smaller ones is abandoned."""

State = tuple[Array, ...]
"""(z,) or (z, ∫ div f dγ), or their derivatives with respect to γ."""

Field = Callable[[Array, Array, Any], State]
"""A function (z, γ, probes) -> d state/dγ for a batch; without probes, `probes` is ()."""


class _Controller(diffrax.PIDController):
    """Step-size control by the error in units of σ(γ) and nats; γ = args · t, because diffrax's t always increases."""

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, *args: Any) -> Any:
        # A fixed first step saves the network calls that would find one; t increases, so it is positive.
        return super().init(terms, t0, t1, y0, FIRST_STEP, *args)

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, *state: Any
    ) -> Any:
        z_error, *rest = y_error
        sigma = gaussian.sigma(jnp.minimum(args * t0, args * t1))
        return super().adapt_step_size(t0, t1, y0, y1_candidate, args, (z_error / sigma, *rest), *state)


def _error(scaled: State) -> Array:
    """The root mean square over z, or the error of log p per dimension if that is larger."""
    z, *rest = scaled
    error = jnp.sqrt(jnp.mean(jnp.square(z)))
    for divergence in rest:
        error = jnp.maximum(error, jnp.max(jnp.abs(divergence)) / z.size)
    return error


def solve(
    field: Field, state: State, probes: Any, start: ArrayLike, end: ArrayLike, tolerance: ArrayLike, max_steps: int
) -> tuple[State, Array]:
    """Return the state at γ = `end` from that at γ = `start`, and the number of network calls for each example.

    Raises ValueError unless `start` and `end` are scalars, 0 < tolerance < ∞ (not checked if traced) and max_steps ≥ 1.
    """
    for value in (start, end):
        if jnp.ndim(value):
            raise ValueError(f"gamma_0, gamma_1: one has shape {jnp.shape(value)}: must be scalars")
    if not isinstance(tolerance, jax.core.Tracer) and not 0 < np.asarray(tolerance) < np.inf:
        raise ValueError(f"tolerance={np.asarray(tolerance):g}: must be above 0 and finite")
    if isinstance(max_steps, bool) or not isinstance(max_steps, Integral) or max_steps < 1:
        raise ValueError(f"max_steps={max_steps!r}: must be a whole number, 1 or more")
    dtype = state[0].dtype
    gamma_start, gamma_end, tolerance = (jnp.asarray(value, dtype) for value in (start, end, tolerance))

    # The network's variables may be tracers of an enclosing jit. The rule below is called while a loop is batched, and
    # could not close over those, so they become inputs.
    closed = jax.make_jaxpr(field)(state[0], jnp.broadcast_to(gamma_start, state[0].shape[:1]), probes)

    # diffrax solves for one example, under vmap; the network still sees the whole batch, as it may hold its conditions.
    @custom_vmap
    def derivative(consts: list[Any], state: State, gamma: Array, probes: Any) -> State:
        # Never computed: it only gives the shapes.
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state)

    @derivative.def_vmap
    def _(size: int, batched: Any, *inputs: Any) -> tuple[State, Any]:
        def widen(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))

        consts, *rest = inputs
        state, gamma, probes = jax.tree.map(widen, tuple(rest), tuple(batched[1:]))
        evaluate = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))
        result = tuple(evaluate(*jax.tree.leaves((state[0], gamma, probes))))
        return result, jax.tree.map(lambda _: True, result)

    def one(state: State, probes: Any) -> tuple[State, Array]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda gamma, state, _: derivative(closed.consts, state, gamma, probes)),
            diffrax.Tsit5(),
            gamma_start,
            gamma_end,
            dt0=None,
            y0=state,
            args=jnp.where(gamma_start < gamma_end, 1, -1).astype(dtype),
            stepsize_controller=_Controller(rtol=0, atol=tolerance, norm=_error, dtmin=MIN_STEP, force_dtmin=False),
            adjoint=diffrax.ForwardMode(),
            max_steps=max_steps,
            throw=False,
        )
        done = solution.result == diffrax.RESULTS.successful
        final = jax.tree.map(lambda leaf: jnp.where(done, leaf[-1], jnp.nan), solution.ys)
        # Tsit5 calls the network six times per step, as its seventh stage is the next step's first. (A rejected first
        # step costs one call more, which diffrax does not report.)
        return final, 6 * solution.stats["num_steps"] + 1

    return jax.vmap(one)(state, probes)
