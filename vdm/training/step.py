"""One training step: the gradient of the bound, the variance gradient of the schedule's shape, and the update."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Integer, PRNGKeyArray, Shaped

from vdm import bounds, parallel, schedules
from vdm.config import Config
from vdm.model import Batch, Bound, Model, Variables
from vdm.proposals import NoiseLevels
from vdm.training.state import TrainState, ema_decay, init_state, update_ema

# The parts that a non-finite value is reported in.
FINITE_TERMS = ("reconstruction", "prior", "diffusion", "gradient")


class Metrics(NamedTuple):
    """Sums over the steps since the last reset, kept on the device: no host round trip a step."""

    num_steps: Integer[Array, ""]
    bits_per_dim: Bound
    """Sums of batch means of each term, bits/dim."""
    grad_norm: Array
    """Sum of global norms of the network's gradient, before clipping."""
    bad_step: Integer[Array, ""]
    """First step with a non-finite term; 0 while there is none."""
    bad_term: Integer[Array, ""]
    """Index of that term in `FINITE_TERMS`."""


def empty_metrics() -> Metrics:
    """Metrics of no steps."""

    def zero() -> Array:
        return jnp.zeros(())

    def none() -> Array:
        return jnp.zeros((), jnp.int32)

    return Metrics(none(), Bound(zero(), zero(), zero()), zero(), none(), none())


def loss_and_gradients(
    model: Model,
    variables: Variables,
    proposal: Any,
    key: PRNGKeyArray,
    batch: Batch,
    num_parts: int = 1,
    mesh: Mesh | None = None,
) -> tuple[Bound, Variables, Any]:
    """(batch means of the bound's terms in bits/dim, gradients of what each variable minimises, proposal's next state).

    The network follows the bound with its diffusion loss L weighted by w(λ), `model.weighting`. The schedule's end
    points and the likelihood follow the bound itself; so does the shape of a learned schedule in discrete time. In
    continuous time it does not move the expected bound, so it follows the gradient of the variance of one draw's
    weighted loss w L: that of E[(w L)²], as E[w L] is constant (Kingma et al. 2021, §I.2). The batch's mean needs only
    ∂L_i/∂γ_i and ∂L_i/∂γ'_i, which the one backward pass through the network gives, example by example; they are
    weighted with 2 w_i L_i and pulled back through the schedule.

    With `num_parts`, a divisor of the batch, the passes through the network are over one part after another, and the
    rest over the whole batch: the same numbers but for dropout, whose masks are each part's own. A batch on a mesh
    needs the `mesh`: each part is then spread over all of it.
    """
    draw_key, dropout_key = jax.random.split(key)
    draws = model.draw(draw_key, batch["image"].shape[0])
    schedule = variables["schedule"]

    def levels_of(schedule: Any) -> tuple[tuple[Array, Array], NoiseLevels]:
        gamma = functools.partial(model.schedule.gamma, schedule)
        levels = model.proposal.draw(proposal, draws.t, gamma, model.num_steps)
        return (levels.gamma, levels.weight), levels

    (gamma_t, weight), pull_back, levels = jax.vjp(levels_of, schedule, has_aux=True)
    w, w_slope = schedules.value_and_slope(lambda gamma: model.weighting.weight(-gamma), gamma_t)

    def backward(examples: tuple[Any, ...], dropout_key: PRNGKeyArray) -> tuple[Variables, tuple[Array, Array, Bound]]:
        """Of some examples: the gradient, a sum over them; ∂/∂γ, ∂/∂weight and the bound, one by one."""
        batch, draws, gamma_t, weight, w = examples

        def loss(variables: Variables, gamma_t: Array, weight: Array) -> tuple[Array, Bound]:
            bound = model.bound_at(variables, batch, draws, gamma_t, weight, dropout_key)
            bound = Bound(*(bounds.bits_per_dim(term, model.num_dims) for term in bound))
            return jnp.mean(bound.reconstruction + bound.prior + w * bound.diffusion) / num_parts, bound

        (gradients, *by), bound = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(variables, gamma_t, weight)
        return gradients, (*by, bound)

    def add(total: Variables, part: tuple[Array, Any]) -> tuple[Variables, tuple[Array, Array, Bound]]:
        number, examples = part
        gradients, one_by_one = backward(examples, jax.random.fold_in(dropout_key, number))
        return jax.tree.map(jnp.add, total, gradients), one_by_one

    examples = (batch, draws, gamma_t, weight, w)
    if num_parts == 1:
        gradients, (by_gamma, by_weight, bound) = backward(examples, dropout_key)
    else:
        parts = (jnp.arange(num_parts), jax.tree.map(lambda x: cut(x, num_parts, mesh), examples))
        gradients, one_by_one = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, variables), parts)
        by_gamma, by_weight, bound = jax.tree.map(joined, one_by_one)
    # Of w L: w held fixed, so where w > 0 those of L are a division away.
    inverse = jnp.where(w > 0, 1 / w, 0)
    (through_levels,) = pull_back((inverse * by_gamma, inverse * by_weight))
    of_schedule = jax.tree.map(jnp.add, gradients["schedule"], through_levels)
    if "shape" in schedule and model.num_steps is None:
        twice = 2 * w * bound.diffusion
        by_gamma += w_slope * bound.diffusion / w.size
        (through_variance,) = pull_back((twice * by_gamma, twice * by_weight))
        of_schedule |= {"shape": through_variance["shape"]}
    gradients = {**gradients, "schedule": of_schedule}
    proposal = model.proposal.update(proposal, levels, w * bound.diffusion)
    return Bound(*(jnp.mean(term) for term in bound)), gradients, proposal


def cut(x: Shaped[Array, "batch *rest"], num_parts: int, mesh: Mesh | None) -> Shaped[Array, "parts part *rest"]:
    """Example j·num_parts + k as example j of part k: neighbours in the batch, so on the same device, go to all parts.

    A device's block of rows is its block of each part, and nothing moves between devices. The times of a part are
    stratified as well.
    """
    parts = jnp.swapaxes(x.reshape(-1, num_parts, *x.shape[1:]), 0, 1)
    return parts if mesh is None else jax.lax.with_sharding_constraint(parts, parallel.parts_sharding(mesh))


def joined(parts: Shaped[Array, "parts part *rest"]) -> Shaped[Array, "batch *rest"]:
    """The inverse of `cut`."""
    return jnp.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])


def make_train_step(
    model: Model, optimizer: optax.GradientTransformation, config: Config, mesh: Mesh | None = None
) -> Callable[[TrainState, Metrics, Batch], tuple[TrainState, Metrics]]:
    """The pure function (state, metrics, batch) -> (state, metrics) that training repeats; the caller jits it.

    `mesh` is needed where the batch is on one and comes in parts, `training.accumulate`, or the state is cut: variables
    are made whole, to compute the loss with.
    """
    parts = (config.training.accumulate, mesh)

    def train_step(state: TrainState, metrics: Metrics, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        whole = state.variables if mesh is None else parallel.gathered(state.variables, mesh)
        bound, gradients, proposal = loss_and_gradients(model, whole, state.proposal, key, batch, *parts)
        grad_norm = optax.tree.norm(gradients["network"])

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.variables)
        variables = optax.apply_updates(state.variables, updates)
        ema = update_ema(state.ema, variables, ema_decay(config.optimizer, state.step))

        step = state.step + 1
        finite = jnp.isfinite(jnp.stack([*bound, optax.tree.norm(gradients)]))
        newly_bad = (metrics.bad_step == 0) & ~jnp.all(finite)
        metrics = Metrics(
            num_steps=metrics.num_steps + 1,
            bits_per_dim=Bound(*(a + b for a, b in zip(metrics.bits_per_dim, bound, strict=True))),
            grad_norm=metrics.grad_norm + grad_norm,
            bad_step=jnp.where(newly_bad, step, metrics.bad_step),
            bad_term=jnp.where(newly_bad, jnp.argmin(finite), metrics.bad_term),
        )
        return TrainState(step, variables, opt_state, ema, state.key, proposal), metrics

    return train_step


def jit_train_step(
    model: Model, optimizer: optax.GradientTransformation, config: Config, mesh: Mesh
) -> jax.stages.Wrapped:
    """`make_train_step` as a program over the mesh that reuses the memory of its arguments.

    The batch is spread over all devices, and each computes with whole variables; the state is cut over "fsdp".
    """
    shapes = jax.eval_shape(lambda: init_state(model, optimizer, config.seed))
    shardings = parallel.state_sharding(shapes, mesh), parallel.replicated(mesh)
    step = make_train_step(model, optimizer, config, mesh)
    return jax.jit(step, donate_argnums=(0, 1), out_shardings=shardings)
