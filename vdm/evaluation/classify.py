"""A conditional model as a classifier: p(c|x) ∝ p(c) exp(−bound(x|c)), with the same times and noise for all classes.

Of the bound's terms, only the diffusion loss depends on the class (Li et al. 2023; Clark & Jaini 2023).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Key, PRNGKeyArray
from scipy.special import logsumexp

from vdm import bounds, memory, parallel, precisions
from vdm.data import examples, selected, selection
from vdm.data.dataset import Source
from vdm.errors import InputError
from vdm.evaluation import race
from vdm.evaluation.bound import Progress, image_noise, image_uniform, own_offsets, stratum
from vdm.evaluation.statistics import Groups, stderr_over, stderr_over_images, wilson
from vdm.keys import keys_at
from vdm.model import Bound, Draws, Model, Variables

LABEL = "label"
CHECKED = 100
"""Number of images that are also classified with all draws when classes are dropped early, as a check."""

MOST_LOSSES = 2**24
"""Maximum number of losses (images · classes · draws) kept in memory at once."""


@dataclass(frozen=True)
class LeastCost:
    """How classes were dropped early, and how often that changed the answer."""

    error: float
    """Requested limit on the probability, per image, of an answer other than the one that all draws would give."""
    num_checked: int
    """Number of images that were also classified with all draws."""
    disagreements: int
    """How many of these got another answer."""
    interval: tuple[float, float]
    """Wilson's 95% interval for that share."""
    whole_calls: int
    """Network calls per image with all draws of every class."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return {
            "error": self.error,
            "checked": self.num_checked,
            "disagreements": self.disagreements,
            "disagreement_interval_95": list(self.interval),
            "whole_calls_per_image": self.whole_calls,
        }


@dataclass(frozen=True)
class Classification:
    """How well a conditional model classifies a set of images."""

    accuracy: float
    stderr: float | None
    """Standard error of `accuracy`; see `stderr_over`. None for a single image or group."""
    interval: tuple[float, float] | None
    """Wilson's 95% interval for the accuracy. None for images in groups."""
    log_loss: float
    """Mean of −log p(label|x) in nats; log C for an uninformative model. Noise makes p overconfident."""
    log_loss_stderr: float | None
    undecided: float
    """Share of images whose runner-up is within two standard errors, over the draws, of the winner."""
    confusion: Integer[np.ndarray, "labels answers"]
    """Number of images by label (row) and answer (column)."""
    num_images: int
    num_draws: int
    """Noise draws per image and class."""
    calls: float
    """Mean number of network calls per image, over all classes, without those of the check."""
    bits_per_dim: float | None
    """The bound given each image's own label, from these draws. None if classes were dropped."""
    stderr_over: str = "images"
    num_available: int | None = None
    """Number of images that the classified ones were chosen from. None: all were classified."""
    precision: str = precisions.FLOAT32
    least_cost: LeastCost | None = None

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.4f}"
        range_ = "" if self.interval is None else f" (95 %: {self.interval[0]:.4f} to {self.interval[1]:.4f})"
        return f"{self.accuracy:.4f}{error}{range_}"

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.confusion)

    @property
    def by_class(self) -> list[dict[str, Any]]:
        """For each class: its number of images, the recall, and the precision; None where undefined."""
        rows = zip(np.diag(self.confusion), self.confusion.sum(axis=1), self.confusion.sum(axis=0), strict=True)
        return [
            {
                "images": int(images),
                "recall": float(right / images) if images else None,
                "precision": float(right / answers) if answers else None,
            }
            for right, images, answers in rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as in the file that `evaluate.py --classify` writes."""
        names = ("num_classes", "num_images", "num_draws", "undecided", "bits_per_dim", "stderr_over", "precision")
        interval = None if self.interval is None else list(self.interval)
        return {
            "accuracy": {"mean": self.accuracy, "stderr": self.stderr, "interval_95": interval},
            "log_loss_nats": {"mean": self.log_loss, "stderr": self.log_loss_stderr},
            **{name: getattr(self, name) for name in names},
            "calls_per_image": self.calls,
            "least_cost": None if self.least_cost is None else self.least_cost.to_dict(),
            "by_class": self.by_class,
            "confusion": self.confusion.tolist(),
            "images": selection.record(self.num_images, self.num_available or self.num_images),
        }


class Classifier:
    """Classifies with the variables of one model; compiles once per number of draws, whatever the classes.

    Each network call takes a batch of (image, class) pairs, packed anew in every round, so that nothing is computed for
    classes that were dropped. Image k draws from fold_in(fold_in(key, 0), k), as in `Evaluator`: its stratified times
    and noise are those of its bound there and the same for every class, and neither batches nor devices change the
    result. Rounds take the strata in an order that spreads each round over all times, shifted by a random number for
    each image.
    """

    def __init__(self, model: Model, mesh: Mesh, batch_size: int, num_classes: int):
        """Evaluate `batch_size` pairs per call, rounded up to a multiple of the mesh's devices.

        Raises ValueError for a model that is not conditioned on "label", and for fewer than two classes.
        """
        if LABEL not in model.condition:
            conditions = ", ".join(model.condition) or "nothing"
            raise ValueError(f"model is conditioned on {conditions}: must be on 'label', to tell the classes apart")
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}: must be 2 or more")
        self.model, self.mesh, self.num_classes = model, mesh, num_classes
        self.batch_size = parallel.round_up(batch_size, mesh)

        def losses(variables: Variables, *rest: Any) -> Array:
            return diffusion_losses(model, parallel.gathered(variables, mesh), *rest)

        self._losses = jax.jit(losses)
        self._ends = jax.jit(lambda variables, *rest: other_losses(model, parallel.gathered(variables, mesh), *rest))

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        *,
        log_prior: Float[np.ndarray, " classes"] | None = None,
        error: float | None = None,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> Classification:
        """Classify all images of `source`, or `max_images` spread over it.

        `log_prior` is log p(c), uniform by default. With `error`, classes are dropped early, see `vdm.evaluation.race`,
        and `CHECKED` of the images are also classified with all draws. Raises `InputError` for a loss that is not
        finite and for a label that is not a class.
        """
        indices = selected(len(source), max_images)
        prior = np.full(self.num_classes, -np.log(self.num_classes)) if log_prior is None else log_prior
        some = np.isin(indices, selected(len(source), min(CHECKED, len(indices))))
        chunk = max(self.batch_size, MOST_LOSSES // (self.num_classes * num_draws))
        raced: list[race.Race] = []
        labels, groups, ends = [], [], []
        each, total = self.num_classes * num_draws, len(indices) * self.num_classes * num_draws
        for first in range(0, len(indices), chunk):
            here = indices[first : first + chunk]
            batch = examples(source, here)
            self._check_labels(batch[LABEL], here)

            def report(done: int, before: int = first * each) -> None:
                progress(min(before + done, total), total)

            measure = _Measure(self, variables, key, batch, here, num_draws, report)
            checked = some[first : first + chunk] if error is not None else None
            raced.append(race.run(measure, prior, len(here), num_draws, error, checked))
            labels.append(batch[LABEL])
            if "group" in batch:
                groups.append(batch["group"])
            if error is None:
                own = raced[-1].losses[np.arange(len(here)), batch[LABEL]].mean(axis=1)
                ends.append(own + measure.ends())
            report(len(here) * each)
        bits = bounds.bits_per_dim(np.concatenate(ends).mean(), self.model.num_dims) if ends else None
        return to_classification(
            raced,
            np.concatenate(labels),
            groups=np.concatenate(groups) if groups else None,
            error=error,
            bits_per_dim=None if bits is None else float(bits),
            num_available=len(source),
            precision=self.model.precision,
        )

    def losses(
        self, variables: Variables, source: Source, key: PRNGKeyArray, num_draws: int
    ) -> Float[np.ndarray, "images classes draws"]:
        """Return the diffusion loss in nats for every draw of every class; its mean over the draws is the bound's."""
        indices = np.arange(len(source))
        measure = _Measure(self, variables, key, examples(source, indices), indices, num_draws)
        images, classes = np.indices((len(source), self.num_classes)).reshape(2, -1)
        return measure(images, classes, 0, num_draws).reshape(len(source), self.num_classes, num_draws)

    def _check_labels(self, labels: np.ndarray, indices: np.ndarray) -> None:
        wrong = np.nonzero((labels < 0) | (labels >= self.num_classes))[0]
        if len(wrong):
            raise InputError(
                f"image {indices[wrong[0]]} has label {labels[wrong[0]]}: must be from 0 to {self.num_classes - 1}"
            )


class _Measure:
    """The losses of (image, class) pairs that a race requests, evaluated in batches of one size."""

    def __init__(
        self,
        classifier: Classifier,
        variables: Variables,
        key: PRNGKeyArray,
        batch: dict[str, np.ndarray],
        indices: np.ndarray,
        num_draws: int,
        progress: Callable[[int], None] = lambda done: None,
    ):
        self._of, self._variables, self._progress, self._done = classifier, variables, progress, 0
        model = classifier.model
        self._exact_sum = model.num_steps is not None and num_draws % model.num_steps == 0
        self._key, self._order = jax.random.fold_in(key, 0), jnp.asarray(race.spread(num_draws))
        offset = np.asarray(own_offsets(key, self._exact_sum)(0, indices), np.float32)
        kept = {name: batch[name] for name in ("image", *model.condition)}
        self._batch = kept | {"index": indices.astype(np.int32), "offset": offset}

    def __call__(self, images: np.ndarray, classes: np.ndarray, first: int, last: int) -> np.ndarray:
        result = []
        for rows, batch in self._batches(images):
            pairs = classes[rows]
            batch[LABEL] = _filled(pairs, self._of.batch_size).astype(self._batch[LABEL].dtype)
            with precisions.products(precisions.FLOAT32), memory.guarded("classification", memory.EVALUATION):
                placed = parallel.shard_batch(self._local(batch), self._of.mesh)
                found = self._of._losses(self._variables, self._key, placed, self._order, first, last)
                losses = parallel.to_host(found)[: len(pairs), : last - first]
            if not np.isfinite(losses).all():
                raise InputError("classification: a loss is not finite; the network's values are too large or NaN")
            result.append(losses.astype(np.float64))
            self._done += losses.size
            self._progress(self._done)
        return np.concatenate(result)

    def ends(self) -> Float[np.ndarray, " images"]:
        """Return the reconstruction plus prior loss of each image in nats, averaged over the draws."""
        found = []
        for rows, batch in self._batches(np.arange(len(self._batch["index"]))):
            with precisions.products(precisions.FLOAT32), memory.guarded("classification", memory.EVALUATION):
                placed = parallel.shard_batch(self._local(batch), self._of.mesh)
                nats = self._of._ends(self._variables, self._key, placed, len(self._order))
                found.append(parallel.to_host(nats)[: len(rows)].astype(np.float64))
        return np.concatenate(found)

    def _batches(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield (positions in `images`, their batch); the last batch is filled up by repeating its last image."""
        size = self._of.batch_size
        for first in range(0, len(images), size):
            rows = np.arange(first, min(first + size, len(images)))
            chosen = _filled(images[rows], size)
            yield rows, {name: entry[chosen] for name, entry in self._batch.items()}

    def _local(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return this process's rows. Every process knows all images here, so that all make the same decisions."""
        share = self._of.batch_size // jax.process_count()
        rows = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        return {name: entry[rows] for name, entry in batch.items()}


def _filled(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([values, np.repeat(values[-1:], size - len(values))])


def diffusion_losses(
    model: Model,
    variables: Variables,
    key: PRNGKeyArray,
    pairs: dict[str, Array],
    order: Integer[Array, " draws"],
    first: Integer[Array, ""],
    last: Integer[Array, ""],
) -> Float[Array, "pairs draws"]:
    """Return the diffusion losses of draws first … last − 1 of each pair in nats, in the first columns; the rest is 0.

    A pair has "image", its conditions, the class in question as "label", and the image's "index" and "offset". Draw j
    of an image is in stratum (order[j] + s) mod N of its times, with a random s for each image.
    """
    num_draws = order.shape[0]
    keys = keys_at(key, pairs["index"])
    # A stream that no draw uses.
    shift = jnp.floor(image_uniform(keys, jnp.asarray(-1)) * num_draws).astype(jnp.int32)

    def one(j: Array, losses: Array) -> Array:
        d = (order[first + j] + shift) % num_draws
        return losses.at[:, j].set(_bound_of_draw(model, variables, keys, pairs, d, num_draws).diffusion)

    return jax.lax.fori_loop(0, last - first, one, jnp.zeros((*keys.shape, num_draws)))


def other_losses(
    model: Model, variables: Variables, key: PRNGKeyArray, batch: dict[str, Array], num_draws: Integer[Array, ""]
) -> Float[Array, " batch"]:
    """Return the reconstruction plus prior loss of each image in nats, averaged over the draws; no class changes it."""
    keys = keys_at(key, batch["index"])

    def add(d: Array, total: Array) -> Array:
        bound = _bound_of_draw(model, variables, keys, batch, jnp.broadcast_to(d, keys.shape), num_draws)
        return total + (bound.reconstruction + bound.prior) / num_draws

    return jax.lax.fori_loop(0, num_draws, add, jnp.zeros(keys.shape))


def _bound_of_draw(
    model: Model,
    variables: Variables,
    keys: Key[Array, " batch"],
    batch: dict[str, Array],
    d: Integer[Array, " batch"],
    num_draws: Integer[ArrayLike, ""],
) -> Bound:
    """Return draw d of the images' bounds; the compiler drops the terms that are not used."""
    t = stratum(batch["offset"], d, num_draws)
    gamma_t, weight = bounds.noise_levels(functools.partial(model.gamma, variables), t, model.num_steps)
    draws = Draws(t, image_noise(keys, 2 * d + 1, model.shape), image_noise(keys, 2 * d + 2, model.shape))
    return model.bound_at(variables, batch, draws, gamma_t, weight)


def to_classification(
    races: Sequence[race.Race],
    labels: Integer[np.ndarray, " images"],
    *,
    groups: Groups | None = None,
    error: float | None = None,
    **others: Any,
) -> Classification:
    """Combine races, in the order of `labels`, into a `Classification`; `others` are fields that are passed on."""
    margins = np.concatenate([each.margins for each in races])
    answers, (num_images, num_classes) = np.argmin(margins, axis=1), margins.shape
    right = answers == labels
    log_loss = margins[np.arange(num_images), labels] + logsumexp(-margins, axis=1)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    num_draws, least_cost = races[0].losses.shape[2], None
    if error is not None:
        wrong = np.concatenate([np.argmin(each.complete, axis=1) != each.winners[each.checked] for each in races])
        interval = wilson(int(wrong.sum()), len(wrong))
        least_cost = LeastCost(error, len(wrong), int(wrong.sum()), interval, num_classes * num_draws)
    return Classification(
        accuracy=float(right.mean()),
        stderr=stderr_over_images(right.astype(np.float64), groups),
        interval=wilson(int(right.sum()), num_images) if groups is None else None,
        log_loss=float(log_loss.mean()),
        log_loss_stderr=stderr_over_images(log_loss, groups),
        undecided=float(np.concatenate([race.undecided(each) for each in races]).mean()),
        confusion=confusion,
        num_images=num_images,
        num_draws=num_draws,
        calls=float(np.concatenate([each.calls for each in races]).mean()),
        stderr_over=stderr_over(groups),
        least_cost=least_cost,
        **others,
    )
