"""Data that their labels determine, and a network for them that is exact with and without the label."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct
from jaxtyping import Array, Integer

from vdm import gaussian, likelihoods, schedules
from vdm.data import Arrays, Dataset, in_memory
from vdm.model import Model, Variables

SHAPE, LEVELS, NUM = (4, 4, 1), 17, 4
PATTERNS = np.random.default_rng(0).integers(0, LEVELS, (NUM, *SHAPE)).astype(np.uint8)
"""The image of each label."""
LABEL = {"label": ShapeDtypeStruct((), jnp.int32)}


class Means(nn.Module):
    """x̂ of images that are one of `NUM` patterns, as often each: the label's own, or a mean over their posterior."""

    num: int = NUM
    shape: tuple[int, ...] = SHAPE

    @nn.compact
    def __call__(
        self, z: Array, gamma: Array, condition: dict[str, Integer[Array, " batch"]] | None = None, train: bool = False
    ) -> Array:
        means = self.param("means", nn.initializers.normal(0.1), (self.num, *self.shape))
        if condition is not None:
            return means[condition["label"]]
        gamma = jnp.broadcast_to(gamma, z.shape[:1])
        distances = z[:, None] - gaussian.expand(gaussian.alpha(gamma), z[:, None]) * means[None]
        squares = jnp.sum(jnp.square(distances), axis=range(2, distances.ndim))
        logits = -squares / (2 * gaussian.sigma(gamma)[:, None] ** 2)
        return jnp.einsum("bk,k...->b...", nn.softmax(logits), means)


def model(conditional: bool, gamma_0: float = -10.0, gamma_1: float = 9.0) -> Model:
    """By default, at γ₀ even neighbouring levels are apart by many σ, and at γ₁ nothing is left of the patterns."""
    condition = LABEL if conditional else {}
    return Model(schedules.linear(gamma_0, gamma_1), Means(), SHAPE, LEVELS, "x", condition=condition)


def exact(model: Model) -> Variables:
    """The variables with which the network is the exact denoiser."""
    means = likelihoods.encode(jnp.asarray(PATTERNS), LEVELS)
    return model.init(jax.random.key(0)) | {"network": {"means": means}}


def labels(num: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, NUM, num)


def source(num: int = 13) -> Arrays:
    return Arrays({"image": PATTERNS[labels(num)], "label": labels(num)})


def mislabelled(num: int = 13) -> Arrays:
    """The same images with labels that are all wrong."""
    return Arrays({"image": PATTERNS[labels(num)], "label": (labels(num) + 1) % NUM})


def dataset(num: int = 64) -> Dataset:
    return in_memory(source(num).arrays, source(13).arrays, levels=LEVELS, name="patterns", classes="abcd")
