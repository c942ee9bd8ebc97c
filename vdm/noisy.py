"""What is trained on the noisy images of a run, beside its model: what classifiers and image–text models share."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vdm import gaussian, precisions, timesteps
from vdm import model as model_lib
from vdm.config import OptimizerConfig, TrainingConfig, of_model, running
from vdm.model import Variables
from vdm.settings import at_least, between

Schedule = Callable[[Array], Array]
"""t -> γ(t)."""


@dataclass(frozen=True)
class OnNoise:
    """A network that sees integer images z_t and their γ; stateless, its variables {"network": …} are passed in."""

    network: nn.Module
    shape: tuple[int, ...]
    levels: int
    gamma_max: float = field(default=5.0, kw_only=True)
    """γ of the most noise that it was trained with: what the network is told where γ = ∞."""
    gamma_min: float = field(default=-13.3, kw_only=True)
    """γ of the least: what clean images are shown with."""
    precision: str = field(default=precisions.FLOAT32, kw_only=True)
    """What the network computes in."""

    def computed_in(self, precision: str) -> "OnNoise":
        """The same, of the same variables, in another precision; raises as `Model.computed_in`."""
        network = model_lib.in_dtype(self.network, precisions.dtype(precision))
        return replace(self, network=network, precision=precision)

    def finite(self, gamma: gaussian.Gamma) -> gaussian.Gamma:
        """γ as the network is told it: `gamma_max` in place of ∞."""
        gamma = jnp.asarray(gamma, jnp.float32)
        return jnp.where(jnp.isinf(gamma), jnp.float32(self.gamma_max), gamma)

    def draw(
        self, key: PRNGKeyArray, batch_size: int, gamma: Schedule
    ) -> tuple[Float[Array, " batch"], Float[Array, "batch *data"]]:
        """Noise levels γ(t), with stratified uniform t, and noise ε of a (global) batch."""
        key_t, key_eps = jax.random.split(key)
        times = timesteps.stratified(key_t, batch_size)
        return gamma(times), jax.random.normal(key_eps, (batch_size, *self.shape))


def parameters(variables: Mapping[str, Any]) -> Variables:
    """Of what Flax makes of a network. Raises ValueError for a network with other variables."""
    if others := variables.keys() - {"params"}:
        raise ValueError(f"network: has variables {', '.join(sorted(others))}; must have parameters alone")
    return {"network": variables.get("params", {})}


@dataclass(slots=True)
class OfConfig:
    """The run on whose noisy images it is trained; read from it."""

    run: str = running("", "Folder of the run.")
    step: int = running(0, "Steps that the run had been trained for.", at_least(0))
    schedule: str = of_model("", "Noise schedule of the run's averaged variables: its name, and a digest of these.")
    gamma_min: float = of_model(-13.3, "γ(0) of it.", between(-30, 30))
    gamma_max: float = of_model(5.0, "γ(1) of it.", between(-30, 30))


def ends(of: OfConfig) -> dict[str, Any]:
    """Of γ, by the names that constructors have."""
    return {"gamma_min": of.gamma_min, "gamma_max": of.gamma_max}


def context(config: Any, **of_data: Any) -> dict[str, Any]:
    """What a network's constructor is given, if it has a parameter of the name: `shape`, `levels` and what else is told
    of the data, the ends of γ, `dtype`, and all fields of `config.network`."""
    of_data |= {"shape": config.data.shape, "levels": config.data.levels}
    return asdict(config.network) | of_data | ends(config.of) | {"dtype": precisions.FLOAT32}


def optimizer() -> OptimizerConfig:
    """What a small network learns well by in minutes."""
    return OptimizerConfig(learning_rate=2e-3, weight_decay=0.05, decay="cosine", ema_decay=0.999)


def training(steps: int = 2000) -> TrainingConfig:
    """Minutes of it."""
    return TrainingConfig(
        steps=steps, batch_size=64, log_every=100, evaluate_every=500, checkpoint_every=250, sample_every=0
    )
