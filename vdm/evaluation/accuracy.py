"""How often a classifier on noisy images is right: over the noise that a sampler visits, by γ, and on clean images."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian, likelihoods, memory, parallel, precisions
from vdm.classifier import Classifier, Schedule
from vdm.data import evaluation_batches, num_evaluated, selection
from vdm.data.dataset import Source
from vdm.evaluation.bound import image_noise, image_uniform, stratum
from vdm.evaluation.statistics import Groups, stderr_over, stderr_over_images
from vdm.model import Variables

GAMMA_BINS = 16
"""Equal bins of γ, from γ(0) to γ(1)."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Share:
    """A share of images, or another mean over them, and its standard error over images like these; None of one."""

    value: float
    stderr: float | None

    def __str__(self) -> str:
        return f"{self.value:.4f}" + ("" if self.stderr is None else f" ± {self.stderr:.4f}")


@dataclass(frozen=True)
class Accuracy:
    """Of a classifier on a set of images, with noise: the share of images whose likeliest class is their label."""

    cross_entropy: Share
    """−log p(label|z_t, γ(t)) in nats, over uniform times."""
    accuracy: Share
    """Over uniform times."""
    clean: Share
    """At γ(0), the least noise."""
    by_gamma: list[Share | None] = field(repr=False)
    """Accuracy in each of `GAMMA_BINS` equal bins from γ(0) to γ(1), over uniform γ; None of one where none fell."""
    edges: Float[np.ndarray, " edges"] = field(repr=False, compare=False)
    """The ends of the bins."""
    num_images: int
    num_draws: int
    """Noise levels of an image at uniform times, and as many at uniform γ."""
    num_classes: int
    stderr_over: str = "images"
    num_available: int | None = None
    precision: str = precisions.FLOAT32

    @property
    def total(self) -> float:
        """What a checkpoint is the better for the less it is: the cross-entropy, nats."""
        return self.cross_entropy.value

    def __str__(self) -> str:
        return f"cross-entropy {self.cross_entropy} nats, accuracy {self.accuracy}, on clean images {self.clean}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as in `evaluation.json`."""
        edges = [round(float(edge), 4) for edge in self.edges]
        return {
            "cross_entropy_nats": asdict(self.cross_entropy),
            "accuracy": asdict(self.accuracy),
            "accuracy_clean": asdict(self.clean),
            "accuracy_by_gamma": [
                {"gamma": list(ends), **({"value": None, "stderr": None} if share is None else asdict(share))}
                for ends, share in zip(pairwise(edges), self.by_gamma, strict=True)
            ],
            **{name: getattr(self, name) for name in ("num_classes", "num_images", "num_draws", "stderr_over")},
            "images": selection.record(self.num_images, self.num_available or self.num_images),
            "precision": self.precision,
        }


class AccuracyEvaluator:
    """Evaluates the variables of one classifier; compiled once.

    Image k draws its noise from fold_in(key, k), at times that are stratified with an offset of its own, so the result
    does not depend on batch size or devices.
    """

    def __init__(self, classifier: Classifier, gamma: Schedule, mesh: Mesh, batch_size: int):
        """`gamma` is t -> γ(t); `batch_size` images a call, rounded up to a multiple of the mesh's devices."""
        self.classifier, self.mesh = classifier, mesh
        self.batch_size = parallel.round_up(batch_size, mesh)
        low, high = np.asarray(gamma(jnp.asarray([0.0, 1.0])), np.float64)
        self.edges = np.linspace(low, high, GAMMA_BINS + 1)

        def of_batch(variables: Variables, *rest: Any) -> Sums:
            return image_sums(classifier, gamma, parallel.gathered(variables, mesh), *rest)

        self._of_batch = jax.jit(of_batch)

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> Accuracy:
        """Over every image of `source`, or `max_images` from all over it, at `num_draws` noise levels each."""
        total, done = num_evaluated(source, max_images), 0
        processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        sums, groups = [], []
        for batch in evaluation_batches(source, self.batch_size, max_images=max_images, **processes):
            sharded = parallel.shard_batch(batch, self.mesh)
            with precisions.products(precisions.FLOAT32), memory.guarded("evaluation", memory.EVALUATION):
                result = self._of_batch(variables, key, sharded, num_draws)
                of_images, mask = parallel.to_host((result, sharded["mask"]))
            sums.append(Sums(*(of[mask] for of in of_images)))
            if "group" in batch:
                groups.append(parallel.to_host(sharded["group"])[mask])
            done += int(mask.sum())
            progress(done, total)
        return to_accuracy(
            jax.tree.map(lambda *parts: np.concatenate(parts), *sums),
            num_draws,
            self.edges,
            np.concatenate(groups) if groups else None,
            num_classes=self.classifier.classes,
            num_available=len(source),
            precision=self.classifier.precision,
        )


class Sums(NamedTuple):
    """Of each image, over its draws."""

    uniform: Float[Array, "batch 2"]
    """At uniform times: how many are classified rightly, and the sum of the cross-entropies in nats."""
    by_gamma: Float[Array, "batch bins 2"]
    """At uniform γ, in each of the `GAMMA_BINS`: how many there are, and how many of them are classified rightly."""
    clean: Float[Array, " batch"]
    """Whether it is classified rightly at γ(0), of one draw."""


def image_sums(
    classifier: Classifier,
    gamma: Schedule,
    variables: Variables,
    key: PRNGKeyArray,
    batch: dict[str, Array],
    num_draws: Integer[ArrayLike, ""],
) -> Sums:
    """Of each image of a batch with "image", "label" and "index"."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])
    offsets = image_uniform(keys, jnp.int32(0))
    x = likelihoods.encode(batch["image"], classifier.levels)
    label = batch["label"].astype(jnp.int32)
    low, high = gamma(jnp.float32(0)), gamma(jnp.float32(1))

    def at(gamma_t: Array, stream: Array) -> tuple[Array, Array]:
        z = gaussian.diffuse(x, image_noise(keys, stream, classifier.shape), gamma_t)
        log_prob = classifier.log_prob(variables, z, gamma_t)
        loss = -jnp.take_along_axis(log_prob, label[:, None], axis=1)[:, 0]
        return (jnp.argmax(log_prob, axis=1) == label).astype(jnp.float32), loss

    def add(d: Array, total: tuple[Array, Array]) -> tuple[Array, Array]:
        uniform, by_gamma = total
        u = stratum(offsets, d, num_draws)
        uniform += jnp.stack(at(gamma(u), 2 * d + 2), axis=1)
        # A schedule may spend little time at some γ, and none is left out here.
        right, _ = at(low + (high - low) * u, 2 * d + 3)
        bins = jax.nn.one_hot(jnp.floor(u * GAMMA_BINS).astype(jnp.int32), GAMMA_BINS)
        by_gamma += bins[:, :, None] * jnp.stack([jnp.ones_like(right), right], axis=1)[:, None, :]
        return uniform, by_gamma

    start = jnp.zeros((*keys.shape, 2)), jnp.zeros((*keys.shape, GAMMA_BINS, 2))
    uniform, by_gamma = jax.lax.fori_loop(0, num_draws, add, start)
    return Sums(uniform, by_gamma, at(jnp.broadcast_to(low, keys.shape), jnp.int32(1))[0])


def to_accuracy(
    sums: Sums,
    num_draws: int,
    edges: Float[np.ndarray, " edges"],
    groups: Groups | None = None,
    **rest: Any,
) -> Accuracy:
    """Means and standard errors of the sums of all images."""
    uniform, by_gamma, clean = (np.asarray(each, np.float64) for each in sums)

    def mean(of: np.ndarray) -> Share:
        return Share(float(of.mean()), stderr_over_images(of, groups))

    def share(of: np.ndarray, among: np.ndarray) -> Share | None:
        if not among.sum():
            return None
        value = of.sum() / among.sum()
        # Of a ratio of two sums over images, to first order.
        return Share(float(value), stderr_over_images((of - value * among) / among.mean(), groups))

    return Accuracy(
        cross_entropy=mean(uniform[:, 1] / num_draws),
        accuracy=mean(uniform[:, 0] / num_draws),
        clean=mean(clean),
        by_gamma=[share(by_gamma[:, k, 1], by_gamma[:, k, 0]) for k in range(GAMMA_BINS)],
        edges=edges,
        num_images=len(clean),
        num_draws=num_draws,
        stderr_over=stderr_over(groups),
        **rest,
    )
