"""Evaluation of a ladder network on a set of images: the cost of each layer and, with labels, the accuracy."""

import functools
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import memory, parallel, precisions
from vdm.classifier import cross_entropy
from vdm.data import examples, selected, selection
from vdm.data.dataset import Source
from vdm.evaluation.bound import Progress
from vdm.evaluation.over_images import over_images
from vdm.evaluation.statistics import Groups, Share, stderr_over
from vdm.keys import folded, keys_at
from vdm.model import Variables
from vdm.predecessors.ladder import LadderNetwork, Statistics

CALIBRATION = 2048
"""Maximum number of training images for the statistics that batch normalization uses in evaluation."""


@dataclass(frozen=True)
class LadderEvaluation:
    """Evaluation of a ladder network on a set of images with noise, normalized by statistics of training images."""

    costs: tuple[Share, ...]
    """‖ẑ_t − d_t‖²/dims of each layer, from the image up, without the weights."""
    weights: tuple[float, ...]
    """λ_t of each layer and, with labels, the weight of the cross-entropy last."""
    cross_entropy: Share | None
    """−log p(label|noisy image) in nats over all the images. None for a network without labels."""
    accuracy: Share | None
    """Accuracy of the clean path. None for a network without labels."""
    num_images: int
    num_draws: int
    """Noise draws per image."""
    stderr_over: str = "images"
    num_available: int | None = None
    precision: str = precisions.FLOAT32

    @property
    def total(self) -> float:
        """The weighted sum, as in training, by which checkpoints are compared: lower is better."""
        terms = [*self.costs, *([] if self.cross_entropy is None else [self.cross_entropy])]
        return sum(weight * term.value for weight, term in zip(self.weights, terms, strict=True))

    def __str__(self) -> str:
        costs = "cost of each layer " + ", ".join(map(str, self.costs))
        return costs if self.accuracy is None else f"{costs}; accuracy {self.accuracy}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are written to `evaluation.json`."""
        return {
            "total": self.total,
            "costs": [asdict(cost) for cost in self.costs],
            "weights": list(self.weights),
            "cross_entropy_nats": None if self.cross_entropy is None else asdict(self.cross_entropy),
            "accuracy": None if self.accuracy is None else asdict(self.accuracy),
            "num_images": self.num_images,
            "num_draws": self.num_draws,
            "stderr_over": self.stderr_over,
            "images": selection.record(self.num_images, self.num_available or self.num_images),
            "precision": self.precision,
        }


class Sums(NamedTuple):
    """Sums over the draws of each image."""

    costs: Float[Array, "batch layers"]
    cross_entropy: Float[Array, " batch"]
    right: Float[Array, " batch"]
    """Whether the clean path predicts the image's class; not a sum."""


class LadderEvaluator:
    """Evaluates a ladder network with given variables; compiles once.

    Image k draws its noise from fold_in(key, k), and the statistics are those of training images, so the result does
    not depend on the batch size or the devices.
    """

    def __init__(self, model: LadderNetwork, mesh: Mesh, batch_size: int, training: Source):
        """Calibrate on images of `training`, and evaluate `batch_size` images per call.

        The batch size is rounded up to a multiple of the mesh's devices.
        """
        self.model, self.mesh, self.training = model, mesh, training
        self.batch_size = parallel.round_up(batch_size, mesh)

        def of_batch(variables: Variables, statistics: Statistics, *rest: Any) -> Sums:
            return image_sums(model, parallel.gathered(variables, mesh), statistics, *rest)

        self._of_batch, self._calibrate = jax.jit(of_batch), jax.jit(self._statistics)

    def calibrate(self, variables: Variables, key: PRNGKeyArray) -> Statistics:
        """Return the statistics of `CALIBRATION` training images spread over the split, or of all if they are fewer."""
        images = examples(self.training, selected(len(self.training), CALIBRATION))["image"]
        with precisions.products(precisions.FLOAT32), memory.guarded("evaluation", memory.EVALUATION):
            found: Statistics = parallel.to_host(self._calibrate(variables, key, images))
        return found

    def _statistics(self, variables: Variables, key: PRNGKeyArray, image: Array) -> Statistics:
        # Far from the numbers of images.
        eps = self.model.draw(jax.random.fold_in(key, np.uint32(2**32 - 1)), len(image))
        return self.model.calibrate(parallel.gathered(variables, self.mesh), image, eps)

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> LadderEvaluation:
        """Evaluate all images of `source`, or `max_images` spread over it, with `num_draws` noise draws each."""
        statistics = self.calibrate(variables, key)
        sums, groups = over_images(
            lambda batch: self._of_batch(variables, statistics, key, batch, num_draws),
            source,
            self.mesh,
            self.batch_size,
            max_images,
            progress,
        )
        return to_evaluation(
            self.model,
            sums,
            num_draws,
            groups,
            num_available=len(source),
        )


def image_sums(
    model: LadderNetwork,
    variables: Variables,
    statistics: Statistics,
    key: PRNGKeyArray,
    batch: dict[str, Array],
    num_draws: Integer[ArrayLike, ""],
) -> Sums:
    """Return the sums for each image of a batch with "image", "index" and, for a network with labels, "label"."""
    keys = keys_at(key, batch["index"])
    image, classifies = batch["image"], bool(model.labelled)

    def add(d: Array, total: tuple[Array, Array]) -> tuple[Array, Array]:
        found = model(variables, image, model.draw_each(folded(keys, d)), statistics)
        costs = total[0] + jnp.stack(found.costs, axis=1)
        if not classifies:
            return costs, total[1]
        return costs, total[1] + cross_entropy(jax.nn.log_softmax(found.noisy_top), batch["label"])

    none = jnp.zeros(keys.shape)
    start = jnp.zeros((*keys.shape, model.num_layers + 1)), none
    costs, entropy = jax.lax.fori_loop(0, num_draws, add, start)
    if not classifies:
        return Sums(costs, entropy, none)
    answer = jnp.argmax(model.log_prob(variables, statistics, image), axis=1)
    return Sums(costs, entropy, (answer == batch["label"]).astype(jnp.float32))


def to_evaluation(
    model: LadderNetwork, sums: Sums, num_draws: int, groups: Groups | None = None, **rest: Any
) -> LadderEvaluation:
    """Compute means and standard errors over all images."""
    costs, entropy, right = (np.asarray(each, np.float64) for each in sums)

    mean = functools.partial(Share.mean, groups=groups)

    classifies = bool(model.labelled)
    return LadderEvaluation(
        costs=tuple(mean(cost) for cost in costs.T / num_draws),
        weights=(*model.costs, *([model.weight] if classifies else [])),
        cross_entropy=mean(entropy / num_draws) if classifies else None,
        accuracy=mean(right) if classifies else None,
        num_images=len(right),
        num_draws=num_draws,
        stderr_over=stderr_over(groups),
        precision=model.precision,
        **rest,
    )
