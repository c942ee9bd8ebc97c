"""The model: a schedule, a network and a likelihood, as pure functions of its variables."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vdm import bounds, likelihoods, parts, precisions, predictions, schedules, timesteps
from vdm.config import Config, network_context, schedule_context, validate
from vdm.errors import InputError, one_line

Variables = dict[str, Any]
Batch = dict[str, Array]
Computed = TypeVar("Computed")
"""Any kind of model with a method `computed_in`."""
DROPPED = "dropped"
"""Entry of a batch or condition that marks the examples whose condition is to be ignored: booleans (batch,)."""
Condition = Any
"""A pytree of arrays with leading axis batch, or None for no condition."""


class Bound(NamedTuple):
    """The three terms of the bound on −log p(x), in nats, each of shape (batch,)."""

    reconstruction: Array
    prior: Array
    diffusion: Array

    @property
    def total(self) -> Array:
        """Sum of the three terms, −VLB in nats: the free energy, Eq. 3.61 of De Sousa Ribeiro & Glocker (2024)."""
        return self.reconstruction + self.prior + self.diffusion


class Draws(NamedTuple):
    """Random numbers of one estimate of the bound: times, noise of z_t and noise of z₀."""

    t: Float[Array, " batch"]
    eps: Float[Array, "batch *data"]
    eps_0: Float[Array, "batch *data"]


@dataclass(frozen=True)
class Model:
    """A variational diffusion model of images or vectors. It is stateless: its variables are passed to its methods.

    With T steps it is p(z₁) p(x|z₀) Π p(z_s|z_t), Eq. 3.52 of De Sousa Ribeiro & Glocker (2024) (Kingma et al. 2021,
    Eq. 6). Variables are {"network": …, "schedule": …, "likelihood": …}, with {} for parts without parameters. A batch
    is a dict with "image", integers 0 … levels−1 of shape (batch, *shape), or real numbers if `levels` is 0
    (`likelihoods.REAL`), and with whatever the network is conditioned on.

    >>> from vdm import schedules
    >>> from vdm.networks import UNet
    >>> network = UNet(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
    >>> model = Model(schedules.linear(-10.0, 5.0), network, shape=(4, 4, 1), levels=256)
    >>> variables = model.init(jax.random.key(0))
    >>> batch = {"image": jnp.zeros((2, 4, 4, 1), jnp.uint8)}
    >>> model.bound(variables, jax.random.key(1), batch).total.shape
    (2,)
    """

    schedule: schedules.Schedule
    network: nn.Module
    """A Flax module called as (z, γ, condition=None, train=False) -> prediction.

    z is (batch, *shape), γ a scalar or (batch,), and condition a pytree with leading axis batch, or None. With `train`,
    dropout draws from the stream "dropout".
    """
    shape: tuple[int, ...]
    levels: int
    prediction: str = "eps"
    """What the network predicts: one of `predictions.PREDICTIONS`. With "energy", E is ½ ‖output‖²."""
    num_steps: int | None = None
    """T of a discrete-time model; None for continuous time."""
    condition: Mapping[str, jax.ShapeDtypeStruct] = field(default_factory=dict, hash=False)
    """The entries of a batch that the network is conditioned on, each with the shape and dtype of one example."""
    precision: str = precisions.FLOAT32
    """Precision of the network's computation, e.g. "bfloat16"; `computed_in` changes it."""
    condition_dropout: float = 0.0
    """Share of training images whose condition is dropped, so that the network also learns to work without it.

    If it is above 0, a condition given to the network may have an entry "dropped", booleans (batch,), which marks the
    examples whose condition the network is to ignore. A network initialized with this entry treats its absence as no
    condition dropped.
    """

    @property
    def num_dims(self) -> int:
        """Number of data dimensions of one image: the divisor of bits/dim."""
        return math.prod(self.shape)

    def computed_in(self, precision: str) -> "Model":
        """Return the same model, with the same variables, computing its network in another of `precisions.PRECISIONS`.

        For bfloat16 the network needs a field `dtype`, like that of Flax's own layers. Raises ValueError for a network
        without one, and for an unknown precision.

        >>> from vdm import schedules
        >>> from vdm.networks import UNet
        >>> network = UNet(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
        >>> model = Model(schedules.linear(-10.0, 5.0), network, shape=(4, 4, 1), levels=256)
        >>> model.computed_in("bfloat16").network.dtype
        dtype(bfloat16)
        """
        network = in_dtype(self.network, precisions.dtype(precision))
        same = network is self.network and precision == self.precision
        return self if same else replace(self, network=network, precision=precision)

    def init(self, key: PRNGKeyArray, condition: Condition = None) -> Variables:
        """Initialize the variables, for conditions like `condition` (default: those described by the model)."""
        if condition is None and self.condition:
            condition = {name: jnp.zeros((1, *like.shape), like.dtype) for name, like in self.conditions.items()}
        batch = 1 if condition is None else jax.tree.leaves(condition)[0].shape[0]
        network_key, schedule_key = jax.random.split(key)
        z = jnp.zeros((batch, *self.shape))
        network = dict(self.network.init(network_key, z, jnp.zeros(batch), condition))
        params = network.pop("params", {})
        if network:
            raise ValueError(f"network: has variables {', '.join(network)}; must have parameters alone")
        return {"network": params, "schedule": self.schedule.init(schedule_key), "likelihood": {}}

    def condition_of(self, batch: Mapping[str, Any]) -> Condition:
        """Return the entries of a batch that the network is conditioned on, or None for an unconditional model.

        "dropped" is included if the batch has it and the network knows it. Raises ValueError if the batch lacks an
        entry or has it in another shape.
        """
        if not self.condition:
            return None
        for name, like in self.condition.items():
            if name not in batch:
                raise ValueError(f"batch has {', '.join(batch)}: must have {name!r}, a condition of the network")
            if batch[name].shape[1:] != like.shape or not batch[name].shape:
                wanted = "".join(f", {size}" for size in like.shape) or ","
                raise ValueError(f"batch[{name!r}] has shape {batch[name].shape}: must be (batch{wanted})")
        return {name: batch[name] for name in self.conditions if name in batch}

    @property
    def conditions(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The entries of a condition that the network is given: `condition`, and "dropped" if training drops some."""
        if not self.condition or not self.condition_dropout:
            return dict(self.condition)
        return {**self.condition, DROPPED: jax.ShapeDtypeStruct((), jnp.bool_)}

    def with_dropped(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        """Add "dropped" to a training batch, drawn independently per example with rate `condition_dropout`."""
        if not self.condition or not self.condition_dropout:
            return batch
        dropped = jax.random.bernoulli(key, self.condition_dropout, batch["image"].shape[:1])
        return {**batch, DROPPED: dropped}

    def condition_for(self, num: int, condition: Condition) -> Condition:
        """Check a condition given for `num` examples, and return the entries that the network is conditioned on.

        Raises ValueError if the model is conditional and the condition is None, and unless each array has `num` rows.
        """
        if condition is None and self.condition:
            raise ValueError(f"condition=None: must be a dict of {', '.join(map(repr, self.condition))}")
        for path, leaf in jax.tree_util.tree_leaves_with_path(condition):
            if jnp.shape(leaf)[:1] != (num,):
                name = f"condition{jax.tree_util.keystr(path)}"
                raise ValueError(f"{name} has shape {jnp.shape(leaf)}: must begin with {num}, one for each image")
        return self.condition_of(condition) if self.condition else condition

    def gamma(self, variables: Variables, t: Array) -> Array:
        """γ(t), with the shape of t: scalar or (batch,)."""
        return self.schedule.gamma(variables["schedule"], t)

    def denoiser(
        self,
        variables: Variables,
        condition: Condition = None,
        dropout_key: PRNGKeyArray | None = None,
    ) -> predictions.Both:
        """Return the denoiser with these variables, (z, γ) -> `Prediction`; dropout is on if `dropout_key` is given.

        At γ = ∞ (α = 0) the network is evaluated at γ(1), the highest noise level of its training, and its output is
        taken as a prediction for a z of pure noise.
        """
        params = {"params": variables["network"]}
        rngs = None if dropout_key is None else {"dropout": dropout_key}

        def network(z: Array, gamma: Array) -> Array:
            gamma = jnp.where(jnp.isinf(gamma), self.gamma(variables, jnp.float32(1)), gamma)
            with precisions.products(self.precision):
                value = self.network.apply(params, z, gamma, condition, dropout_key is not None, rngs=rngs)
            value = jnp.asarray(value)
            if self.prediction != "energy":
                return value
            return 0.5 * jnp.sum(jnp.square(value), axis=range(1, value.ndim))

        return predictions.denoiser(network, self.prediction)

    def denoise(
        self,
        variables: Variables,
        z: Float[Array, "batch *data"],
        gamma: Array,
        condition: Condition = None,
    ) -> Float[Array, "batch *data"]:
        """ε̂(z, γ), with the shape of z; γ is a scalar or (batch,)."""
        return self.denoiser(variables, condition)(z, gamma).eps

    def draw(self, key: PRNGKeyArray, batch_size: int, times: timesteps.Times = timesteps.stratified) -> Draws:
        """Draw times and noise for one estimate of the bound on a (global) batch."""
        key_t, key_eps, key_eps_0 = jax.random.split(key, 3)
        shape = (batch_size, *self.shape)
        return Draws(times(key_t, batch_size), jax.random.normal(key_eps, shape), jax.random.normal(key_eps_0, shape))

    def bound(self, variables: Variables, key: PRNGKeyArray, batch: Batch) -> Bound:
        """Estimate the model's bound, T-step or continuous, without bias from one draw: nats, each term (batch,)."""
        draws = self.draw(key, batch["image"].shape[0])
        gamma = functools.partial(self.gamma, variables)
        return self.bound_at(variables, batch, draws, *bounds.noise_levels(gamma, draws.t, self.num_steps))

    def bound_at(
        self,
        variables: Variables,
        batch: Batch,
        draws: Draws,
        gamma_t: Float[Array, " batch"],
        weight: Float[Array, " batch"],
        dropout_key: PRNGKeyArray | None = None,
        loss_space: str = "eps",
    ) -> Bound:
        """Estimate the bound with given draws, and with given γ and weights of the diffusion loss at their times.

        `loss_space` is the prediction whose error the diffusion loss squares: see `bounds.diffusion_loss_at`.
        """
        image = batch["image"]
        x = likelihoods.encode(image, self.levels)
        denoise = self.denoiser(variables, self.condition_of(batch), dropout_key)
        return Bound(
            reconstruction=bounds.reconstruction_loss(
                image, self.gamma(variables, jnp.float32(0)), draws.eps_0, self.levels
            ),
            prior=bounds.prior_loss(x, self.gamma(variables, jnp.float32(1))),
            diffusion=bounds.diffusion_loss_at(denoise, gamma_t, weight, x, draws.eps, loss_space),
        )


def from_config(config: Config) -> Model:
    """Return the model that a config describes, in float32: `at_precision` changes the precision.

    Raises `InputError` for an invalid field, or if data.shape or data.levels is not set.
    """
    validate(config)
    if config.data.shape is None or config.data.levels is None:
        raise InputError("config.data.shape and config.data.levels must be set (vdm train reads them from the data)")
    schedule: schedules.Schedule = parts.make("schedule", config.schedule.name, **schedule_context(config))
    model = Model(
        schedule=schedule,
        network=_network(config, remat=False),
        shape=config.data.shape,
        levels=config.data.levels,
        prediction=config.network.prediction,
        num_steps=config.objective.num_steps,
        condition=described(config.data.entries, config.network.condition),
        condition_dropout=config.network.condition_dropout,
    )
    if model.condition:
        try:
            jax.eval_shape(model.init, jax.random.key(0))
        except ValueError as error:
            raise InputError(f"config.network.condition={config.network.condition}: {one_line(error)}") from error
    return model


def described(entries: Sequence[str] | None, names: Sequence[str]) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shape and dtype of one example of each of the entries `names`, read from `config.data.entries`.

    Raises `InputError` for a name that is not described.

    >>> described(["label int32", "text int32 64"], ["text"])
    {'text': ShapeDtypeStruct(shape=(64,), dtype=int32)}
    """
    found = {}
    for text in entries or ():
        try:
            name, dtype, *sizes = text.split()
            found[name] = jax.ShapeDtypeStruct(tuple(map(int, sizes)), jnp.dtype(dtype))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"config.data.entries: {text!r}: must be like 'label int32' or 'tokens int32 77'"
            ) from error
    if missing := [name for name in names if name not in found]:
        raise InputError(f"config.data.entries: must describe {missing[0]!r} (it is read from the data)")
    return {name: found[name] for name in names}


def for_training(config: Config, given: Model | None = None) -> Model:
    """Return the model of `from_config`, or the given one, in the precision of training (`training.precision`).

    The model of the config also gets `network.remat`. The variables are the same. Raises as `from_config` and
    `at_precision` do.
    """
    model = replace(from_config(config), network=_network(config)) if given is None else given
    return at_precision(model, config.training.precision, "training")


def at_precision(model: Computed, precision: str, group: str) -> Computed:
    """Return the model with the precision of `config.GROUP.precision`: GROUP is `training`, `evaluation` or `sampling`.

    This works for every kind of model with a method `computed_in`. Raises `InputError` where that raises ValueError.
    """
    try:
        computed: Computed = model.computed_in(precision)  # type: ignore[attr-defined]
        return computed
    except ValueError as error:
        raise InputError(f"config.{group}.precision={precision!r}: {error}") from error


def in_dtype(network: nn.Module, dtype: Any) -> nn.Module:
    """Return the network computing in `dtype`. Raises ValueError if it cannot compute in a dtype other than its own."""
    has_field = any(each.name == "dtype" for each in fields(network))
    # In Flax, dtype=None means the dtype of the input.
    now = getattr(network, "dtype", None) if has_field else None
    if jnp.dtype(jnp.float32 if now is None else now) == dtype:
        return network
    if not has_field:
        raise ValueError(f"the network {type(network).__name__} has no field dtype; must be float32 or tf32")
    return network.clone(dtype=dtype)


def _network(config: Config, **others: Any) -> nn.Module:
    network: nn.Module = parts.make("network", config.network.name, **(network_context(config) | others))
    return network
