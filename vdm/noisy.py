"""Networks trained on the noisy images of a run, beside its model: what classifiers and image–text models share."""

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
    """A network that is given noisy integer images z_t and their γ.

    It is stateless: its variables {"network": …} are passed in.
    """

    network: nn.Module
    shape: tuple[int, ...]
    levels: int
    gamma_max: float = field(default=5.0, kw_only=True)
    """γ of the highest noise level in its training, which the network is given where γ = ∞."""
    gamma_min: float = field(default=-13.3, kw_only=True)
    """γ of the lowest noise level in its training, which the network is given for clean images."""
    precision: str = field(default=precisions.FLOAT32, kw_only=True)
    """Precision of the network's computation, e.g. "bfloat16"."""

    def computed_in(self, precision: str) -> "OnNoise":
        """Return the same object, with the same variables, in another precision; raises as `Model.computed_in` does."""
        network = model_lib.in_dtype(self.network, precisions.dtype(precision))
        return replace(self, network=network, precision=precision)

    def finite(self, gamma: gaussian.Gamma) -> gaussian.Gamma:
        """γ as the network is given it: `gamma_max` in place of ∞."""
        gamma = jnp.asarray(gamma, jnp.float32)
        return jnp.where(jnp.isinf(gamma), jnp.float32(self.gamma_max), gamma)

    def draw(
        self, key: PRNGKeyArray, batch_size: int, gamma: Schedule
    ) -> tuple[Float[Array, " batch"], Float[Array, "batch *data"]]:
        """Draw noise levels γ(t), with stratified uniform t, and noise ε for a (global) batch."""
        key_t, key_eps = jax.random.split(key)
        times = timesteps.stratified(key_t, batch_size)
        return gamma(times), jax.random.normal(key_eps, (batch_size, *self.shape))


def parameters(variables: Mapping[str, Any]) -> Variables:
    """Return {"network": …} from the variables that Flax initializes. Raises ValueError if not all are parameters."""
    if others := variables.keys() - {"params"}:
        raise ValueError(f"network: has variables {', '.join(sorted(others))}; must have parameters alone")
    return {"network": variables.get("params", {})}


@dataclass(slots=True)
class OfConfig:
    """The run on whose noisy images the network is trained. These fields are read from it."""

    run: str = running("", "Folder of the run.")
    step: int = running(0, "Training steps of the run's checkpoint.", at_least(0))
    schedule: str = of_model("", "Noise schedule of the run's averaged variables: its name and a digest of them.")
    gamma_min: float = of_model(-13.3, "γ(0) of this schedule.", between(-30, 30))
    gamma_max: float = of_model(5.0, "γ(1) of this schedule.", between(-30, 30))


def ends(of: OfConfig) -> dict[str, Any]:
    """The end points of γ, by the names that constructors use."""
    return {"gamma_min": of.gamma_min, "gamma_max": of.gamma_max}


def context(config: Any, **of_data: Any) -> dict[str, Any]:
    """Arguments that a network's constructor is given, if it has parameters of these names.

    These are all fields of `config.network`; `shape`, `levels` and the keyword arguments `of_data`; the end points of
    γ; and `dtype`.
    """
    of_data |= {"shape": config.data.shape, "levels": config.data.levels}
    return asdict(config.network) | of_data | ends(config.of) | {"dtype": precisions.FLOAT32}


def optimizer() -> OptimizerConfig:
    """Settings with which a small network trains well within minutes."""
    return OptimizerConfig(learning_rate=2e-3, weight_decay=0.05, decay="cosine", ema_decay=0.999)


def training(steps: int = 2000) -> TrainingConfig:
    """Settings for a training of a few minutes."""
    return TrainingConfig(
        steps=steps, batch_size=64, log_every=100, evaluate_every=500, checkpoint_every=250, sample_every=0
    )
