"""What a ladder network comes to on a set of images: the cost of each layer, and its accuracy where labels count."""

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
"""Training images, at most, whose statistics batch normalisation divides out in evaluation."""


@dataclass(frozen=True)
class LadderEvaluation:
    """Of a ladder network on a set of images, with noise, normalised by the statistics of training images."""

    costs: tuple[Share, ...]
    """‖ẑ_t − d_t‖²/dims of each layer, from the image up, without the weights."""
    weights: tuple[float, ...]
    """λ_t, and last that of the cross-entropy where labels count."""
    cross_entropy: Share | None
    """−log p(label|noisy image) in nats, of all the images; None where labels do not count."""
    accuracy: Share | None
    """By the clean path."""
    num_images: int
    num_draws: int
    """Of the noise, an image."""
    stderr_over: str = "images"
    num_available: int | None = None
    precision: str = precisions.FLOAT32

    @property
    def total(self) -> float:
        """What a checkpoint is the better for the less it is: the weighted sum, as in training."""
        terms = [*self.costs, *([] if self.cross_entropy is None else [self.cross_entropy])]
        return sum(weight * term.value for weight, term in zip(self.weights, terms, strict=True))

    def __str__(self) -> str:
        costs = "cost of each layer " + ", ".join(map(str, self.costs))
        return costs if self.accuracy is None else f"{costs}; accuracy {self.accuracy}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as in `evaluation.json`."""
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
    """Of each image, over its draws."""

    costs: Float[Array, "batch layers"]
    cross_entropy: Float[Array, " batch"]
    right: Float[Array, " batch"]
    """Whether the clean path has its class; not a sum."""


class LadderEvaluator:
    """Evaluates the variables of one ladder network; compiled once.

    Image k draws its noise from fold_in(key, k), and statistics are those of training images, so the result does not
    depend on batch size or devices.
    """

    def __init__(self, model: LadderNetwork, mesh: Mesh, batch_size: int, training: Source):
        """`training` has the images that calibrate; `batch_size` images a call, made a multiple of the devices."""
        self.model, self.mesh, self.training = model, mesh, training
        self.batch_size = parallel.round_up(batch_size, mesh)

        def of_batch(variables: Variables, statistics: Statistics, *rest: Any) -> Sums:
            return image_sums(model, parallel.gathered(variables, mesh), statistics, *rest)

        self._of_batch, self._calibrate = jax.jit(of_batch), jax.jit(self._statistics)

    def calibrate(self, variables: Variables, key: PRNGKeyArray) -> Statistics:
        """Statistics of `CALIBRATION` training images, or all, from all over them."""
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
        """Over every image of `source`, or `max_images` from all over it, with noise drawn `num_draws` times each."""
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
    """Of each image of a batch with "image", "index" and, where labels count, "label"."""
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
    """Means and standard errors of the sums of all images."""
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
