"""The state that a training run carries from step to step, and the optimizer that updates it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Integer

from vdm import config as config_lib
from vdm import model as model_lib
from vdm import parallel, parts
from vdm.config import Config, OptimizerConfig, RunConfig
from vdm.keys import Stream, stream_key
from vdm.model import Model, Variables
from vdm.training.objective import from_config
from vdm.training.task import Objective, Trainable


class TrainState(NamedTuple):
    """Everything that the next steps depend on, besides the data; a checkpoint holds exactly this."""

    step: Integer[Array, ""]
    """Number of steps done."""
    variables: Variables
    opt_state: Any
    ema: Variables
    """Exponential moving average of all variables, including the schedule's."""
    key: Integer[Array, " words"]
    """Raw data of the key; step n uses fold_in(key, n)."""
    proposal: Any
    """State of the objective; for a diffusion model, that of its proposal, e.g. the loss at each noise level."""


class Trained(NamedTuple):
    """The part of a train state that evaluation and sampling need."""

    step: Integer[Array, ""]
    ema: Variables
    proposal: Any


def init_state(
    model: Trainable, objective: Objective, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """Return the state before the first step; the moving average starts at the variables themselves."""
    variables = model.init(stream_key(seed, Stream.INIT))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        opt_state=optimizer.init(variables),
        ema=jax.tree.map(jnp.copy, variables),
        key=jax.random.key_data(stream_key(seed, Stream.TRAINING)),
        proposal=objective.init(),
    )


def abstract_state(config: Config, mesh: Mesh, model: Model | None = None) -> TrainState:
    """Return the shapes, dtypes and shardings of a config's train state, into which a checkpoint is restored.

    A `model` replaces the one of the config.
    """
    model = model_lib.from_config(config) if model is None else model
    objective, optimizer = from_config(config), make_optimizer(config)
    return parallel.abstract(lambda: init_state(model, objective, optimizer, config.seed), mesh)


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Return the learning-rate schedule of the network: linear warm-up from 0, then constant or cosine decay to 0."""
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.decay == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1))
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, max(warmup, 1)), optax.constant_schedule(peak)], [warmup]
    )


def make_optimizer(config: RunConfig) -> optax.GradientTransformation:
    """Make the config's optimizer for the network, with gradient clipping, and Adam for schedule and likelihood.

    Both use the same learning-rate schedule, each with its own peak.
    """
    c = config.optimizer
    rate = learning_rate(c, config.training.steps)
    ratio = c.schedule_learning_rate / c.learning_rate
    clip = optax.clip_by_global_norm(c.clip_norm) if c.clip_norm > 0 else optax.identity()
    network = optax.chain(clip, parts.make("optimizer", c.name, rate=rate, **config_lib.optimizer_context(config)))
    other = optax.adam(lambda step: ratio * rate(step), b1=c.b1, b2=c.b2)

    def labels(variables: Variables) -> dict[str, str]:
        return {name: "network" if name == "network" else "other" for name in variables}

    return optax.multi_transform({"network": network, "other": other}, labels)


def ema_decay(config: OptimizerConfig, step: Array) -> Array:
    """Return the decay min(config.ema_decay, (1+step)/(10+step)) of the moving average at update `step`, from 0 on.

    >>> round(float(ema_decay(OptimizerConfig(), jnp.int32(0))), 3)
    0.1
    """
    return jnp.minimum(config.ema_decay, (1 + step) / (10 + step))


def update_ema(ema: Variables, variables: Variables, decay: Array) -> Variables:
    """Return decay · ema + (1 − decay) · variables for every leaf.

    >>> update_ema({"a": jnp.float32(0.0)}, {"a": jnp.float32(1.0)}, jnp.float32(0.75))["a"].item()
    0.25
    """
    return jax.tree.map(lambda e, v: e + (1 - decay) * (v - e), ema, variables)
