"""The features of a classifier of the data, which take the place of ImageNet features without needing their weights."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vdm.classifier import Classifier
from vdm.evaluation.metrics.extractors.extractor import Extractor
from vdm.model import Variables

FEATURES, LOG_PROB = "features", "log_prob"


class Opened(NamedTuple):
    """A classifier, and its identity."""

    classifier: Classifier
    variables: Variables
    data: str
    """The data it was trained on, with their version."""
    digest: str
    """Digest of its weights: features of two classifiers are never compared."""


def classifier(shape: Sequence[int], levels: int, classifier: Callable[[], Opened]) -> Extractor:
    """The features before the last linear map of a classifier of the data, and log p(c|x).

    The classifier sees images at its lowest noise level: see `Classifier.features`. Raises ValueError for images of
    another shape or number of levels, and for a network that has no features.

    >>> from vdm.networks.classifier import residual
    >>> of_digits = Classifier(residual(classes=10, channels=8), (8, 8, 1), levels=17, classes=10)
    >>> opened = Opened(of_digits, of_digits.init(jax.random.key(0)), "digits 1.0.0", "sha256:0")
    >>> classifier((8, 8, 1), 17, lambda: opened).outputs
    {'features': 16, 'log_prob': 10}
    """
    own, variables, data, digest = classifier()
    if (own.shape, own.levels) != (tuple(shape), levels):
        raise ValueError(
            f"images are {tuple(shape)} with {levels} levels; classifier takes {own.shape} with {own.levels}, of {data}"
        )

    def apply(variables: Any, images: Array, outputs: tuple[str, ...]) -> dict[str, Array]:
        found = dict(zip((FEATURES, LOG_PROB), own.features(variables, images), strict=True))
        return {name: found[name] for name in outputs}

    images = jax.ShapeDtypeStruct((1, *own.shape), jnp.uint8)
    shapes = jax.eval_shape(lambda v, x: apply(v, x, (FEATURES, LOG_PROB)), variables, images)
    return Extractor(
        title=f"the classifier of {data}",
        identity=f"classifier {digest} of {data}, shown images at γ = {own.gamma_min:g}",
        outputs={name: shape.shape[1] for name, shape in shapes.items()},
        variables=variables,
        apply=apply,
        shape=own.shape,
    )
