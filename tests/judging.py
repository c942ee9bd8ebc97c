"""A classifier whose features are known: a linear map of the pixels, and another of that."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from vdm import gaussian, likelihoods
from vdm.classifier import Classifier
from vdm.evaluation.metrics.extractors.classifier import Opened

GAMMA_MIN = -4.0


class Twice(nn.Module):
    """Logits of `dims` features."""

    dims: int
    classes: int

    @nn.compact
    def __call__(self, z: Array, gamma: Array, train: bool = False) -> Array:
        return nn.Dense(self.classes, name="last")(nn.Dense(self.dims, name="first")(z.reshape(len(z), -1)))


def opened(
    shape: tuple[int, ...] = (8, 8, 1), levels: int = 17, classes: int = 10, dims: int = 3, seed: int = 0
) -> Opened:
    """Of random weights of this seed."""
    rng, size = np.random.default_rng(seed), int(np.prod(shape))

    def dense(rows: int, columns: int) -> dict[str, Any]:
        kernel, bias = rng.normal(size=(rows, columns)), rng.normal(size=columns)
        return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}

    variables = {"network": {"first": dense(size, dims), "last": dense(dims, classes)}}
    classifier = Classifier(Twice(dims, classes), shape, levels, classes, gamma_min=GAMMA_MIN)
    return Opened(classifier, variables, "images 1.0.0", f"sha256:{seed}")


def features(of: Opened, images: np.ndarray) -> np.ndarray:
    """Those of it, in float64."""
    x = np.asarray(likelihoods.encode(jnp.asarray(images), of.classifier.levels), np.float64)
    first = of.variables["network"]["first"]
    alpha = float(gaussian.alpha(jnp.float32(GAMMA_MIN)))
    return alpha * x.reshape(len(x), -1) @ np.asarray(first["kernel"], np.float64) + np.asarray(first["bias"])


def guesses(of: Opened, images: np.ndarray) -> np.ndarray:
    """The most likely class of each image."""
    last = of.variables["network"]["last"]
    return np.argmax(features(of, images) @ np.asarray(last["kernel"]) + np.asarray(last["bias"]), axis=1)
