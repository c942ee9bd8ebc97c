"""The image–text model of noisy images: it guides a diffusion model towards a caption, and matches captions and images.

Its config is a class of its own, with those groups of a model's config that the training loop reads
(`vdm.config.RunConfig`).
"""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vdm import gaussian, likelihoods, noisy, parts, precisions
from vdm import model as model_lib
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
from vdm.noisy import OfConfig, OnNoise
from vdm.settings import at_least, between, fraction, one_of, part, setting


@dataclass(frozen=True)
class ImageText(OnNoise):
    """Features f(z_t, γ) of noisy images and g(y) of captions, whose inner product ⟨f, g⟩ is the logit of a match.

    Trained with `contrastive`, it approaches log p(y|z_t)/p(y) plus a constant, so its gradient with respect to z_t is
    that of a classifier's log p(y|z_t). Captions are encoded as arrays: see `vdm.data.texts`. Stateless, like a
    `Classifier`.

    `network` is any Flax module with the methods `image`, (z, γ, train=False) -> f, with z (batch, *shape) and γ a
    scalar or (batch,), and `text`, captions (batch, *text.shape) -> g; f and g are (batch, features). Equal captions
    must have equal g. Its call, (z, γ, text), must create all of its parameters. With `train`, dropout draws from the
    stream "dropout".

    >>> from vdm.networks.image_text import towers
    >>> like = jax.ShapeDtypeStruct((16,), jnp.int32)
    >>> clip = ImageText(towers(vocabulary=257, channels=8, depth=1), (8, 8, 1), levels=17, text=like)
    >>> variables = clip.init(jax.random.key(0))
    >>> clip.image_features(variables, jnp.zeros((2, 8, 8, 1)), jnp.float32(0)).shape
    (2, 64)
    """

    text: jax.ShapeDtypeStruct
    """Shape and dtype of a caption's array."""

    def init(self, key: PRNGKeyArray) -> Variables:
        """Initialize the variables."""
        z, text = jnp.zeros((1, *self.shape)), jnp.zeros((1, *self.text.shape), self.text.dtype)
        return noisy.parameters(self.network.init(key, z, jnp.zeros(1), text))

    def image_features(
        self,
        variables: Variables,
        z: Float[Array, "batch *data"],
        gamma: gaussian.Gamma,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch features"]:
        """Return f(z, γ), float32; γ is a scalar or (batch,). Dropout is on with a key."""
        return self._apply(variables, "image", z, self.finite(gamma), dropout_key is not None, dropout_key=dropout_key)

    def text_features(self, variables: Variables, text: ArrayLike) -> Float[Array, "batch features"]:
        """Return g(y) of captions (batch, *text.shape), float32."""
        return self._apply(variables, "text", jnp.asarray(text))

    def features(
        self,
        variables: Variables,
        batch: Batch,
        gamma_t: Float[Array, " batch"],
        eps: Float[Array, "batch *data"],
        dropout_key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch features"]]:
        """Return (f, g) of a batch with "image", integers 0 … levels−1, and "text", for given noise levels and noise.

        Raises ValueError for a batch without captions.
        """
        if "text" not in batch:
            raise ValueError(f"batch has {', '.join(batch)}: must have 'text'")
        z = gaussian.diffuse(likelihoods.encode(batch["image"], self.levels), eps, gamma_t)
        return self.image_features(variables, z, gamma_t, dropout_key), self.text_features(variables, batch["text"])

    def _apply(
        self, variables: Variables, method: str, *arguments: Any, dropout_key: PRNGKeyArray | None = None
    ) -> Array:
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        with precisions.products(self.precision):
            found = self.network.apply({"params": variables["network"]}, *arguments, method=method, rngs=rngs)
        return jnp.asarray(found, jnp.float32)


def logits_of(
    images: Float[Array, "images features"], texts: Float[Array, "texts features"]
) -> Float[Array, "images texts"]:
    """Return ⟨f, g⟩ of every image with every caption, in float32.

    >>> logits_of(jnp.eye(2), jnp.array([[3.0, 4.0]])).tolist()
    [[3.0], [4.0]]
    """
    return jnp.matmul(images, texts.T, precision=jax.lax.Precision.HIGHEST)


def contrastive(logits: Float[Array, "batch batch"], same: Bool[Array, "batch batch"]) -> Float[Array, " batch"]:
    """Symmetric contrastive loss of each example of a batch in nats: its image with all captions and vice versa.

    It is the mean of two terms KL(targets ‖ softmax(logits)). The target of an image is uniform over all captions that
    are the `same` as its own, and that of a caption uniform over all images that have it. If all captions differ, this
    is the cross-entropy of Radford et al. (2021, Fig. 3); otherwise it is that minus a constant, the entropy of the
    targets. Equal captions have equal logits, so sharing the target among them changes no gradient. Leaving them out
    would change it, and with it the minimum, log p(y|z)/p(y) plus a constant. Both terms are needed: with that of
    images alone, any function of z could be added to the logits.

    >>> contrastive(jnp.zeros((2, 2)), jnp.eye(2, dtype=bool)).round(4).tolist()
    [0.6930999755859375, 0.6930999755859375]
    """
    targets = same.astype(logits.dtype)
    targets /= jnp.sum(targets, axis=1, keepdims=True)

    least = jnp.sum(jax.scipy.special.xlogy(targets, targets), axis=1)

    def divergence(logits: Array) -> Array:
        return least - jnp.sum(targets * jax.nn.log_softmax(logits), axis=1)

    return (divergence(logits) + divergence(logits.T)) / 2


def equal(text: Array) -> Bool[Array, "batch batch"]:
    """Return which captions of a batch are equal; states of a frozen encoder are compared by their first row only.

    >>> equal(jnp.array([[5, 7], [5, 0], [5, 7]]))[0].tolist()
    [True, False, True]
    """
    rows = text[:, 0] if jnp.issubdtype(text.dtype, jnp.floating) else text
    return jnp.all(rows[:, None] == rows[None], axis=2)


@dataclass(slots=True)
class ImageTextNetworkConfig:
    """The network. It is given those of these fields that it has parameters for."""

    name: str = of_model("towers", "`towers`, or one of your own.", part("image_text", in_context=True))
    features: int = of_model(64, "Length of the vectors of images and captions.", between(2, 2**16))
    channels: int = of_model(32, "Channels at the full resolution, and size of the embedding of γ.", between(1, 2**16))
    depth: int = of_model(2, "Residual blocks at each resolution.", between(1, 1000))
    text_channels: int = of_model(64, "Channels of the captions' transformer.", between(1, 2**16))
    text_depth: int = of_model(2, "Blocks of the captions' transformer.", between(1, 1000))
    groups: int | None = of_model(
        None, "Groups of each group normalization; None: 32, or fewer so that each has four channels.", at_least(1)
    )
    dropout: float = setting(0.1, "Dropout rate inside residual blocks in training.", fraction())


@dataclass(slots=True)
class ImageTextConfig:
    """Everything that defines an image–text model of noisy images."""

    task: str = of_model("image-text model", "What is trained.", one_of("image-text model"))
    seed: int = setting(0, "Seed of initialization, data order, times, noise and dropout.", between(0, 2**32 - 1))
    imports: tuple[str, ...] = running((), "Modules that register your own parts; imported first.")
    of: OfConfig = field(default_factory=OfConfig)
    data: DataConfig = field(default_factory=DataConfig)
    network: ImageTextNetworkConfig = field(default_factory=ImageTextNetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=noisy.optimizer)
    training: TrainingConfig = field(default_factory=lambda: noisy.training(1000))
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@validate.register
def _validate_image_text(config: ImageTextConfig) -> None:
    check_training(config)
    if config.evaluation.metrics:
        raise InputError(f"config.evaluation.metrics={config.evaluation.metrics}: an image-text model draws no samples")
    # The network is checked again once the data are known.
    check_part(config, "image_text", "network", **network_context(config))


def network_context(config: ImageTextConfig) -> dict[str, Any]:
    """Arguments that a network's constructor is given: see `noisy.context`; and `vocabulary`."""
    return noisy.context(config, vocabulary=config.data.vocabulary)


def from_config(config: ImageTextConfig) -> ImageText:
    """Return the image–text model that a config describes, in float32.

    Raises `InputError` for an invalid field, or if data.shape, data.levels or data.entries is not set.
    """
    validate(config)
    data = config.data
    if data.shape is None or data.levels is None or data.entries is None:
        raise InputError("config.data: shape, levels and entries must be set (vdm clip reads them from the data)")
    network: nn.Module = parts.make("image_text", config.network.name, **network_context(config))
    text = model_lib.described(data.entries, ["text"])["text"]
    return ImageText(network, data.shape, data.levels, text, **noisy.ends(config.of))
