"""Two images, the exact classifier of them at any noise, and small networks that learn."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import integrate, stats

from vdm import gaussian, likelihoods
from vdm.classifier import Classifier

SHAPE, LEVELS = (2, 2, 1), 17
IMAGES = np.array([[3, 8, 8, 2], [6, 8, 12, 3]], np.uint8).reshape(2, *SHAPE)
GAMMA_0, GAMMA_1 = -6.0, 6.0


def gamma(t: Array) -> Array:
    """A schedule."""
    return GAMMA_0 + (GAMMA_1 - GAMMA_0) * t


class Posterior(nn.Module):
    """log p(z|c) of images that are one of some patterns, each as often: the exact logits, but for a factor."""

    patterns: tuple[Any, ...]
    levels: int
    sharpness: float = 1.0

    @nn.compact
    def __call__(self, z: Array, gamma: Array, train: bool = False) -> Array:
        means = likelihoods.encode(jnp.asarray(np.array(self.patterns, np.uint8)), self.levels)
        gamma = jnp.broadcast_to(gamma, z.shape[:1])
        difference = z[:, None] - gaussian.expand(gaussian.alpha(gamma), z[:, None]) * means[None]
        squares = jnp.sum(jnp.square(difference), axis=range(2, difference.ndim))
        return -self.sharpness * squares / (2 * gaussian.sigma(gamma)[:, None] ** 2)


class Linear(nn.Module):
    """A linear map of z, γ and their product: as little as can learn from both."""

    classes: int
    dtype: Any = None

    @nn.compact
    def __call__(self, z: Array, gamma: Array, train: bool = False) -> Array:
        z = nn.Dropout(0.1, deterministic=not train)(z.reshape(len(z), -1))
        gamma = jnp.broadcast_to(gamma, z.shape[:1])[:, None]
        features = jnp.concatenate([z, z * nn.sigmoid(-gamma), nn.sigmoid(gamma)], axis=1)
        return nn.Dense(self.classes, dtype=self.dtype)(features).astype(jnp.float32)


def nested(array: np.ndarray) -> Any:
    """As tuples, which a Flax module may have for a field."""
    return tuple(map(nested, array)) if array.ndim else int(array)


def exact(sharpness: float = 1.0) -> Classifier:
    """Of the two images."""
    return Classifier(Posterior(nested(IMAGES), LEVELS, sharpness), SHAPE, LEVELS, classes=2)


def linear() -> Classifier:
    """One that is trained in no time."""
    return Classifier(Linear(2), SHAPE, LEVELS, classes=2)


def bayes(gamma: float) -> tuple[float, float]:
    """(cross-entropy in nats, accuracy) of the exact classifier of the two images at this noise level.

    The log-ratio of the true class's posterior to the other's is N(a, 2a) with a = α² ‖x₀ − x₁‖²/(2σ²).
    """
    x = np.asarray(likelihoods.encode(jnp.asarray(IMAGES), LEVELS), np.float64)
    a = np.exp(-gamma) * np.sum((x[0] - x[1]) ** 2) / 2
    of_ratio = stats.norm(a, np.sqrt(2 * a))
    lowest, highest = a - 12 * np.sqrt(2 * a), a + 12 * np.sqrt(2 * a)
    entropy = integrate.quad(lambda r: np.logaddexp(0, -r) * of_ratio.pdf(r), lowest, highest)[0]
    return entropy, 1 - of_ratio.cdf(0)


def over_times(which: int) -> float:
    """The mean of `bayes` over uniform times."""
    return integrate.quad(lambda t: bayes(GAMMA_0 + (GAMMA_1 - GAMMA_0) * t)[which], 0, 1, epsabs=1e-5)[0]
