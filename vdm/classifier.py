"""A classifier of noisy images, p(c|z_t, γ), which guides a diffusion model towards a class and judges its samples.

Its config is a class of its own, with those groups of a model's config that the training loop reads
(`vdm.config.RunConfig`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian, likelihoods, noisy, parts, precisions
from vdm.config import (
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    TrainingConfig,
    check_part,
    check_training,
    of_model,
    running,
    validate,
)
from vdm.errors import InputError
from vdm.model import Batch, Variables
from vdm.noisy import OfConfig, OnNoise, Schedule
from vdm.settings import at_least, between, fraction, one_of, part, setting


@dataclass(frozen=True)
class Classifier(OnNoise):
    """A classifier p(c|z_t, γ) of noisy integer images. It is stateless: its variables {"network": …} are passed in.

    A batch is a dict with "image", integers 0 … levels−1 of shape (batch, *shape), and "label", integers below
    `classes`. `network` is any Flax module called as (z, γ, train=False) -> logits (batch, classes), with z
    (batch, *shape) and γ a scalar or (batch,). With `train`, dropout draws from the stream "dropout".

    >>> from vdm.networks.classifier import residual
    >>> classifier = Classifier(residual(classes=3, channels=8, depth=1), (8, 8, 1), levels=17, classes=3)
    >>> variables = classifier.init(jax.random.key(0))
    >>> classifier.log_prob(variables, jnp.zeros((2, 8, 8, 1)), jnp.float32(0)).shape
    (2, 3)
    """

    classes: int
    """Number of classes."""

    def init(self, key: PRNGKeyArray) -> Variables:
        """Initialize the variables."""
        return noisy.parameters(self.network.init(key, jnp.zeros((1, *self.shape)), jnp.zeros(1)))

    def log_prob(
        self,
        variables: Variables,
        z: Float[Array, "batch *data"],
        gamma: gaussian.Gamma,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch classes"]:
        """Return log p(c|z, γ) of every class c, float32; γ is a scalar or (batch,). Dropout is on with a key."""
        params, rngs = {"params": variables["network"]}, None if dropout_key is None else {"dropout": dropout_key}
        with precisions.products(self.precision):
            logits = self.network.apply(params, z, self.finite(gamma), dropout_key is not None, rngs=rngs)
        return jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))

    def features(
        self, variables: Variables, images: Integer[Array, "batch height width channels"]
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch classes"]]:
        """Return (the input of the network's last `nn.Dense`, log p(c|x) of every class c) for clean images, float32.

        Clean images are z = α x, without noise, at the lowest noise level that the classifier knows, `gamma_min`.
        Raises ValueError for a network whose logits are not the output of an `nn.Dense`.
        """
        seen: list[tuple[Array, Array]] = []

        def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            result = call(*args, **kwargs)
            if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
                seen.append((args[0], result))
            return result

        gamma = jnp.float32(self.gamma_min)
        with nn.intercept_methods(watch):
            x = likelihoods.encode(images, self.levels)
            log_prob = self.log_prob(variables, gaussian.alpha(gamma) * x, gamma)
        if not seen or seen[-1][1].shape != log_prob.shape or seen[-1][0].ndim != 2:
            raise ValueError(
                "the classifier's network has no features: its logits must be the output of an nn.Dense for a vector"
            )
        return seen[-1][0].astype(jnp.float32), log_prob

    def loss(self, variables: Variables, key: PRNGKeyArray, batch: Batch, gamma: Schedule) -> Float[Array, " batch"]:
        """Cross-entropy −log p(label|z_t, γ(t)) in nats, at one noise level per image.

        The times of a batch are stratified uniform, so the noise levels are those that a sampler with the same γ(t)
        visits.
        """
        gamma_t, eps = self.draw(key, batch["image"].shape[0], gamma)
        return self.loss_at(variables, batch, gamma_t, eps)

    def loss_at(
        self,
        variables: Variables,
        batch: Batch,
        gamma_t: Float[Array, " batch"],
        eps: Float[Array, "batch *data"],
        dropout_key: PRNGKeyArray | None = None,
    ) -> Float[Array, " batch"]:
        """Cross-entropy in nats at given noise levels and noise. Raises ValueError for a batch without labels."""
        if "label" not in batch:
            raise ValueError(f"batch has {', '.join(batch)}: must have 'label'")
        z = gaussian.diffuse(likelihoods.encode(batch["image"], self.levels), eps, gamma_t)
        log_prob = self.log_prob(variables, z, gamma_t, dropout_key)
        return cross_entropy(log_prob, batch["label"])


def cross_entropy(log_prob: Float[Array, "batch classes"], label: Integer[Array, " batch"]) -> Float[Array, " batch"]:
    """−log p(label) of each example in nats, from log p(c) of every class."""
    return -jnp.take_along_axis(log_prob, label.astype(jnp.int32)[:, None], axis=1)[:, 0]


@dataclass(slots=True)
class ClassifierNetworkConfig:
    """The network. It is given those of these fields that it has parameters for."""

    name: str = of_model("residual", "`residual`, or one of your own.", part("classifier", in_context=True))
    channels: int = of_model(32, "Channels at the full resolution, and size of the embedding of γ.", between(1, 2**16))
    depth: int = of_model(2, "Residual blocks at each resolution.", between(1, 1000))
    groups: int | None = of_model(
        None, "Groups of each group normalization; None: 32, or fewer so that each has four channels.", at_least(1)
    )
    dropout: float = setting(0.1, "Dropout rate inside residual blocks in training.", fraction())


@dataclass(slots=True)
class ClassifierConfig:
    """Everything that defines a classifier of noisy images."""

    task: str = of_model("classifier", "What is trained.", one_of("classifier"))
    seed: int = setting(0, "Seed of initialization, data order, times, noise and dropout.", between(0, 2**32 - 1))
    imports: tuple[str, ...] = running((), "Modules that register your own parts; imported first.")
    of: OfConfig = field(default_factory=OfConfig)
    data: DataConfig = field(default_factory=DataConfig)
    network: ClassifierNetworkConfig = field(default_factory=ClassifierNetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=noisy.optimizer)
    training: TrainingConfig = field(default_factory=noisy.training)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@validate.register
def _validate_classifier(config: ClassifierConfig) -> None:
    check_training(config)
    if config.evaluation.metrics:
        raise InputError(f"config.evaluation.metrics={config.evaluation.metrics}: a classifier draws no samples")
    # 2 stands in for unknown classes: the network is checked again once the data are known.
    check_part(config, "classifier", "network", **network_context(config))


def network_context(config: ClassifierConfig) -> dict[str, Any]:
    """Arguments that a network's constructor is given: see `noisy.context`; and `classes` (2 while unknown)."""
    return noisy.context(config, classes=config.data.classes or 2)


def from_config(config: ClassifierConfig) -> Classifier:
    """Return the classifier that a config describes, in float32.

    Raises `InputError` for an invalid field, or if data.shape, data.levels or data.classes is not set.
    """
    validate(config)
    data = config.data
    if data.shape is None or data.levels is None or data.classes is None:
        raise InputError("config.data: shape, levels and classes must be set (vdm classifier reads them from the data)")
    network: nn.Module = parts.make("classifier", config.network.name, **network_context(config))
    return Classifier(network, data.shape, data.levels, data.classes, **noisy.ends(config.of))
