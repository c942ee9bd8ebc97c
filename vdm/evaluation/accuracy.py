"""Accuracy of a classifier on noisy images: over the noise that a sampler visits, by γ, and on clean images."""

import functools
from dataclasses import asdict, dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian, likelihoods, precisions
from vdm.classifier import Classifier, cross_entropy
from vdm.data import selection
from vdm.data.dataset import Source
from vdm.evaluation.bound import Progress, image_noise
from vdm.evaluation.by_noise import OverNoise, Sums, by_gamma_record, shares_over_noise, sums_over_noise
from vdm.evaluation.statistics import Groups, Share, stderr_over
from vdm.keys import keys_at
from vdm.model import Variables
from vdm.noisy import Schedule


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a noise-conditional classifier on a set of images: how often the most likely class is the label."""

    cross_entropy: Share
    """−log p(label|z_t, γ(t)) in nats, over uniform times."""
    accuracy: Share
    """Over uniform times."""
    clean: Share
    """At γ(0), the lowest noise level."""
    by_gamma: list[Share | None] = field(repr=False)
    """Accuracy over uniform γ in each of `GAMMA_BINS` equal bins from γ(0) to γ(1). None for a bin without draws."""
    edges: Float[np.ndarray, " edges"] = field(repr=False, compare=False)
    """Edges of the bins of γ."""
    num_images: int
    num_draws: int
    """Noise levels per image at uniform times, and as many again at uniform γ."""
    num_classes: int
    stderr_over: str = "images"
    num_available: int | None = None
    precision: str = precisions.FLOAT32

    @property
    def of_all(self) -> bool:
        """Whether all available images were used."""
        return self.num_images == (self.num_available or self.num_images)

    @property
    def numbers(self) -> dict[str, float | None]:
        """The values as in a line of metrics.jsonl."""
        return {
            "cross_entropy": self.cross_entropy.value,
            "stderr": self.cross_entropy.stderr,
            "accuracy": self.accuracy.value,
            "accuracy_stderr": self.accuracy.stderr,
            "accuracy_clean": self.clean.value,
            "accuracy_clean_stderr": self.clean.stderr,
        }

    @property
    def total(self) -> float:
        """The cross-entropy in nats, by which checkpoints are compared: lower is better."""
        return self.cross_entropy.value

    def __str__(self) -> str:
        return f"cross-entropy {self.cross_entropy} nats, accuracy {self.accuracy}, on clean images {self.clean}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are written to `evaluation.json`."""
        return {
            "cross_entropy_nats": asdict(self.cross_entropy),
            "accuracy": asdict(self.accuracy),
            "accuracy_clean": asdict(self.clean),
            "accuracy_by_gamma": by_gamma_record(self.edges, self.by_gamma),
            **{name: getattr(self, name) for name in ("num_classes", "num_images", "num_draws", "stderr_over")},
            "images": selection.record(self.num_images, self.num_available or self.num_images),
            "precision": self.precision,
        }


class AccuracyEvaluator:
    """Evaluates a classifier with given variables; compiles once.

    Image k draws its noise from fold_in(key, k), at stratified times with its own offset, so the result does not depend
    on the batch size or the devices.
    """

    def __init__(self, classifier: Classifier, gamma: Schedule, mesh: Mesh, batch_size: int):
        """`gamma` is t → γ(t). A call takes `batch_size` images, rounded up to a multiple of the mesh's devices."""
        self.classifier = classifier
        self._sums = OverNoise(functools.partial(image_sums, classifier, gamma), gamma, mesh, batch_size)

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> Accuracy:
        """Evaluate all images of `source`, or `max_images` spread over it, at `num_draws` noise levels each."""
        sums, groups = self._sums(variables, source, key, num_draws, max_images, progress)
        return to_accuracy(
            sums,
            num_draws,
            self._sums.edges,
            groups,
            num_classes=self.classifier.classes,
            num_available=len(source),
            precision=self.classifier.precision,
        )


def image_sums(
    classifier: Classifier,
    gamma: Schedule,
    variables: Variables,
    key: PRNGKeyArray,
    batch: dict[str, Array],
    num_draws: Integer[ArrayLike, ""],
) -> Sums:
    """Return the sums of (correct, cross-entropy in nats) for each image of a batch.

    A batch has "image", "label" and "index".
    """
    keys = keys_at(key, batch["index"])
    x = likelihoods.encode(batch["image"], classifier.levels)
    label = batch["label"].astype(jnp.int32)

    def at(gamma_t: Array, stream: Array) -> Array:
        z = gaussian.diffuse(x, image_noise(keys, stream, classifier.shape), gamma_t)
        log_prob = classifier.log_prob(variables, z, gamma_t)
        right = (jnp.argmax(log_prob, axis=1) == label).astype(jnp.float32)
        return jnp.stack([right, cross_entropy(log_prob, label)], axis=1)

    return sums_over_noise(at, gamma, keys, num_draws)


def to_accuracy(
    sums: Sums,
    num_draws: int,
    edges: Float[np.ndarray, " edges"],
    groups: Groups | None = None,
    **rest: Any,
) -> Accuracy:
    """Compute means and standard errors over all images."""
    right, loss = shares_over_noise(sums, num_draws, groups)
    return Accuracy(
        cross_entropy=loss.uniform,
        accuracy=right.uniform,
        clean=right.clean,
        by_gamma=right.by_gamma,
        edges=edges,
        num_images=len(sums.clean),
        num_draws=num_draws,
        stderr_over=stderr_over(groups),
        **rest,
    )
