"""One training step: gradients, update, moving average, and what is kept of them for the log."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Integer

from vdm import parallel, precisions
from vdm.config import RunConfig
from vdm.model import Batch, Bound
from vdm.training.state import TrainState, ema_decay, init_state, update_ema
from vdm.training.task import Objective, Terms, Trainable


class Metrics(NamedTuple):
    """Sums over the steps since the last reset, kept on the device: no host round trip a step."""

    num_steps: Integer[Array, ""]
    bits_per_dim: Terms
    """Sums of batch means of each of the objective's terms, in its unit: those of another task than a model, too.

    The name is that in checkpoints.
    """
    grad_norm: Array
    """Sum of global norms of the network's gradient, before clipping."""
    bad_step: Integer[Array, ""]
    """First step with a non-finite term; 0 while there is none."""
    bad_term: Integer[Array, ""]
    """Index of that term, or of the gradient after all of them."""

    @property
    def bad(self) -> str:
        """Which term that is, or "gradient"."""
        return (*self.bits_per_dim._fields, "gradient")[int(self.bad_term)]


def empty_metrics(terms: type[Terms] = Bound) -> Metrics:
    """Metrics of no steps, of an objective with these terms."""

    def zero() -> Array:
        return jnp.zeros(())

    def none() -> Array:
        return jnp.zeros((), jnp.int32)

    return Metrics(none(), terms(*(zero() for _ in terms._fields)), zero(), none(), none())


def make_train_step(
    model: Trainable,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    config: RunConfig,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Metrics, Batch], tuple[TrainState, Metrics]]:
    """The pure function (state, metrics, batch) -> (state, metrics) that training repeats; the caller jits it.

    What is trained, and for what, is the pair of model and objective: see `vdm.training.task`.
    `mesh` is needed where the batch is on one and comes in parts, `training.accumulate`, or the state is cut: variables
    are made whole, to compute the loss with.
    """
    parts = (config.training.accumulate, mesh)

    def train_step(state: TrainState, metrics: Metrics, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        whole = state.variables if mesh is None else parallel.gathered(state.variables, mesh)
        terms, gradients, proposal = objective.loss_and_gradients(model, whole, state.proposal, key, batch, *parts)
        grad_norm = optax.tree.norm(gradients["network"])

        # An optimiser may have products too, as muon.
        with precisions.products(model.precision):
            updates, opt_state = optimizer.update(gradients, state.opt_state, state.variables)
        variables = optax.apply_updates(state.variables, updates)
        ema = update_ema(state.ema, variables, ema_decay(config.optimizer, state.step))

        step = state.step + 1
        finite = jnp.isfinite(jnp.stack([*terms, optax.tree.norm(gradients)]))
        newly_bad = (metrics.bad_step == 0) & ~jnp.all(finite)
        metrics = Metrics(
            num_steps=metrics.num_steps + 1,
            bits_per_dim=type(terms)(*(a + b for a, b in zip(metrics.bits_per_dim, terms, strict=True))),
            grad_norm=metrics.grad_norm + grad_norm,
            bad_step=jnp.where(newly_bad, step, metrics.bad_step),
            bad_term=jnp.where(newly_bad, jnp.argmin(finite), metrics.bad_term),
        )
        return TrainState(step, variables, opt_state, ema, state.key, proposal), metrics

    return train_step


def jit_train_step(
    model: Trainable, objective: Objective, optimizer: optax.GradientTransformation, config: RunConfig, mesh: Mesh
) -> jax.stages.Wrapped:
    """`make_train_step` as a program over the mesh that reuses the memory of its arguments.

    The batch is spread over all devices, and each computes with whole variables; the state is cut over "fsdp".
    """
    step = make_train_step(model, objective, optimizer, config, mesh)
    return jax.jit(step, donate_argnums=(0, 1), out_shardings=_shardings(model, objective, optimizer, config, mesh))


def jit_train_steps(
    model: Trainable, objective: Objective, optimizer: optax.GradientTransformation, config: RunConfig, mesh: Mesh
) -> jax.stages.Wrapped:
    """As `jit_train_step`, of several steps: (state, metrics, num_steps, *batches) -> (state, metrics).

    `num_steps` is a number at run time, of batches that are used. So calls of any numbers run one loop body, and have
    the same bits: XLA fuses loops of different lengths, and a step outside of a loop, each in its own way.
    """
    step = make_train_step(model, objective, optimizer, config, mesh)
    shardings = _shardings(model, objective, optimizer, config, mesh)

    def train_steps(
        state: TrainState, metrics: Metrics, num_steps: Array, *batches: Batch
    ) -> tuple[TrainState, Metrics]:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)

        def body(n: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            return jax.lax.with_sharding_constraint(step(*carry, jax.tree.map(lambda x: x[n], stacked)), shardings)

        return jax.lax.fori_loop(0, num_steps, body, (state, metrics))

    return jax.jit(train_steps, donate_argnums=(0, 1), out_shardings=shardings)


def _shardings(
    model: Trainable, objective: Objective, optimizer: optax.GradientTransformation, config: RunConfig, mesh: Mesh
) -> tuple[TrainState, NamedSharding]:
    shapes = jax.eval_shape(lambda: init_state(model, objective, optimizer, config.seed))
    return parallel.state_sharding(shapes, mesh), parallel.replicated(mesh)
