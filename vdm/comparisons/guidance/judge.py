"""The classifier that says which class a sample is of."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vdm import gaussian, likelihoods
from vdm.evaluation.images import padded
from vdm.evaluation.metrics import Images
from vdm.model import Variables
from vdm.runs.classifiers import open_classifier
from vdm.runs.open import Run
from vdm.runs.records import read_record, weights_digest

BATCH = 256
"""Images a call."""


class Judge:
    """A run's classifier of noisy images, asked at the least noise that it knows: γ(0), and there without noise."""

    def __init__(self, path: Path, run: Run):
        """Raises `InputError` if there is no classifier in the folder, or it is of other data than the run."""
        classifier, self._variables = open_classifier(path, read_record(run.path)["data"], mesh=run.mesh)
        self.digest = weights_digest(self._variables)
        gamma_0 = run.model.gamma(run.variables, jnp.float32(0))

        def log_prob(variables: Variables, images: Array) -> Array:
            x = likelihoods.encode(images, run.model.levels)
            return classifier.log_prob(variables, gaussian.alpha(gamma_0) * x, gamma_0)

        self._log_prob = jax.jit(log_prob)

    def __call__(self, images: Images) -> Float[np.ndarray, "images classes"]:
        """log p(c|x) of every class."""
        starts = range(0, len(images), BATCH)
        parts = [self._log_prob(self._variables, padded(images, start, BATCH)) for start in starts]
        return np.concatenate(parts)[: len(images)]
