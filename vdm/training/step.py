"""One training step: gradients, update, moving average, and metrics for the log."""

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
    """Sums over the steps since the last reset, kept on the device to avoid a host round trip at every step."""

    num_steps: Integer[Array, ""]
    bits_per_dim: Terms
    """Sums of the batch means of the objective's terms, in the objective's unit.

    That unit is not always bits/dim; checkpoints use this name.
    """
    grad_norm: Array
    """Sum of global norms of the network's gradient, before clipping."""
    bad_step: Integer[Array, ""]
    """First step, counted from 1, with a non-finite term or gradient; 0 if there is none."""
    bad_term: Integer[Array, ""]
    """Index of the first non-finite term in that step; the gradient comes after all terms."""

    @property
    def bad(self) -> str:
        """The name of the non-finite term, or "gradient"."""
        return (*self.bits_per_dim._fields, "gradient")[int(self.bad_term)]


def empty_metrics(terms: type[Terms] = Bound) -> Metrics:
    """Return the metrics of zero steps for an objective with these terms."""

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
    """Return the pure function (state, metrics, batch) -> (state, metrics) that training repeats; the caller jits it.

    Model and objective determine what is trained: see `vdm.training.task`. `mesh` is needed if the batch is on a mesh
    and computed in parts (`training.accumulate`), or if the state is sharded: variables are then gathered to compute
    the loss.
    """
    parts = (config.training.accumulate, mesh)

    def train_step(state: TrainState, metrics: Metrics, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        whole = state.variables if mesh is None else parallel.gathered(state.variables, mesh)
        terms, gradients, proposal = objective.loss_and_gradients(model, whole, state.proposal, key, batch, *parts)
        grad_norm = optax.tree.norm(gradients["network"])

        # Some optimizers compute matrix products too, e.g. muon.
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
    """Jit `make_train_step` over the mesh; the program reuses the memory of its arguments.

    The batch is spread over all devices, each of which computes with complete variables; the state is sharded over the
    mesh axis "fsdp".
    """
    step = make_train_step(model, objective, optimizer, config, mesh)
    return jax.jit(step, donate_argnums=(0, 1), out_shardings=_shardings(model, objective, optimizer, config, mesh))


def jit_train_steps(
    model: Trainable, objective: Objective, optimizer: optax.GradientTransformation, config: RunConfig, mesh: Mesh
) -> jax.stages.Wrapped:
    """Jit several steps as `jit_train_step` does one: (state, metrics, num_steps, *batches) -> (state, metrics).

    `num_steps` is traced and says how many of the batches are used. All calls thus run the same loop body, and results
    are the same to the bit for any number of steps: XLA would fuse loops of different lengths, or a step outside a
    loop, differently.
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
