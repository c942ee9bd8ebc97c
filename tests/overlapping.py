"""Classes that share their images: what is known of p(x|c) and p(c|x), and the network that is exact for all of it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from conditional import LABEL, LEVELS, PATTERNS, SHAPE
from jaxtyping import Array

from vdm import gaussian, likelihoods, schedules
from vdm.data import Arrays
from vdm.model import Model, Variables

SHARES = np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.2, 0.3]])
"""P(pattern k|class c)."""
CLASSES = len(SHARES)


class Posterior(nn.Module):
    """x̂ = E[x|z, c] of images that are pattern k with probability `shares`[c, k]; dropped, of uniform c.

    With `ignores`, the label is not read: x̂ is the dropped one for all.
    """

    ignores: bool = False

    @nn.compact
    def __call__(self, z: Array, gamma: Array, condition: dict[str, Array] | None = None, train: bool = False) -> Array:
        means = self.param("means", nn.initializers.normal(0.1), PATTERNS.shape)
        shares = self.param("shares", nn.initializers.constant(0.25), SHARES.shape)
        prior = jnp.broadcast_to(shares.mean(axis=0), (z.shape[0], shares.shape[1]))
        if condition is not None and not self.ignores:
            dropped = condition.get("dropped", jnp.zeros(z.shape[0], bool))
            prior = jnp.where(dropped[:, None], prior, shares[condition["label"]])
        gamma = jnp.broadcast_to(gamma, z.shape[:1])
        distances = z[:, None] - gaussian.expand(gaussian.alpha(gamma), z[:, None]) * means[None]
        squares = jnp.sum(jnp.square(distances), axis=range(2, distances.ndim))
        logits = jnp.log(prior) - squares / (2 * gaussian.sigma(gamma)[:, None] ** 2)
        return jnp.einsum("bk,k...->b...", nn.softmax(logits), means)


def model(ignores: bool = False) -> Model:
    """At γ₀ the patterns are many σ apart, at γ₁ nothing is left of them: the bound given c is −log P(k|c)."""
    schedule, network = schedules.linear(-10.0, 9.0), Posterior(ignores)
    return Model(schedule, network, SHAPE, LEVELS, "x", condition=LABEL, condition_dropout=0.1)


def exact(model: Model) -> Variables:
    """The variables with which the network is the exact denoiser."""
    means = likelihoods.encode(jnp.asarray(PATTERNS), LEVELS)
    network = {"means": means, "shares": jnp.asarray(SHARES, jnp.float32)}
    return model.init(jax.random.key(0)) | {"network": network}


def draw(num: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(classes, patterns) of `num` images, classes uniform."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, CLASSES, num)
    return classes, np.array([random.choice(len(PATTERNS), p=SHARES[c]) for c in classes])


def source(num: int, seed: int = 1, **entries: np.ndarray) -> Arrays:
    classes, patterns = draw(num, seed)
    return Arrays({"image": PATTERNS[patterns], "label": classes, **entries})
