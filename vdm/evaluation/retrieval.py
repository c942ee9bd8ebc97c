"""How often an image–text model finds the caption of a noisy image, and the image of a caption, among a few."""

import functools
import heapq
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian, likelihoods, precisions
from vdm.data.dataset import Element, Source, examples
from vdm.data.selection import order
from vdm.errors import InputError
from vdm.evaluation.bound import Progress, image_noise
from vdm.evaluation.by_noise import OverNoise, Shares, Sums, by_gamma_record, shares_over_noise, sums_over_noise
from vdm.evaluation.statistics import Share
from vdm.image_text import ImageText, contrastive
from vdm.keys import keys_at
from vdm.model import Variables
from vdm.noisy import Schedule

CANDIDATES = 8
"""Number of different captions to choose from; fewer if the test images have fewer."""


@dataclass(frozen=True)
class Retrieval:
    """Retrieval by an image–text model on sets of test images with different captions, at one γ per set.

    Errors are over sets, which share no images.
    """

    loss: Share
    """`contrastive` loss of a set in nats, over uniform times; log(`num_candidates`) for an uninformative model."""
    image_to_text: Shares
    """Share of images for which, within the set, their own caption has the largest inner product."""
    text_to_image: Shares
    """Share of captions for which, within the set, their own image has the largest inner product."""
    edges: Float[np.ndarray, " edges"] = field(repr=False, compare=False)
    """Edges of the bins of γ."""
    num_candidates: int
    num_sets: int
    num_draws: int
    """Noise levels per set at uniform times, and as many again at uniform γ."""
    sets_available: int
    num_available: int
    """Number of test images, some of which may be left over."""
    precision: str = precisions.FLOAT32

    @property
    def num_images(self) -> int:
        """Number of images in all sets."""
        return self.num_sets * self.num_candidates

    @property
    def of_all(self) -> bool:
        """Whether all available sets were used."""
        return self.num_sets == self.sets_available

    @property
    def total(self) -> float:
        """The loss in nats, by which checkpoints are compared: lower is better."""
        return self.loss.value

    @property
    def numbers(self) -> dict[str, float | None]:
        """The values as in a line of metrics.jsonl."""
        found = {"contrastive": self.loss.value, "stderr": self.loss.stderr}
        for name in ("image_to_text", "text_to_image"):
            shares: Shares = getattr(self, name)
            for what, share in ((name, shares.uniform), (f"{name}_clean", shares.clean)):
                found |= {what: share.value, f"{what}_stderr": share.stderr}
        return found

    def __str__(self) -> str:
        return (
            f"loss {self.loss} nats, of {self.num_candidates} captions the right one {self.image_to_text.uniform}, on "
            f"clean images {self.image_to_text.clean}; of as many images {self.text_to_image.uniform}, "
            f"{self.text_to_image.clean}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are written to `evaluation.json`."""

        def record(shares: Shares) -> dict[str, Any]:
            by_gamma = by_gamma_record(self.edges, shares.by_gamma)
            return {"accuracy": asdict(shares.uniform), "clean": asdict(shares.clean), "by_gamma": by_gamma}

        return {
            "contrastive_nats": asdict(self.loss),
            "image_to_text": record(self.image_to_text),
            "text_to_image": record(self.text_to_image),
            **{name: getattr(self, name) for name in ("num_candidates", "num_sets", "num_draws")},
            "stderr_over": "sets",
            "images": {"num": self.num_images, "of": self.num_available},
            "precision": self.precision,
        }


class Sets:
    """A source of sets: each element has "image" and "text" of a few images with different captions.

    Every set takes one image from each of the captions with the most images left, which gives as many sets as possible;
    images are taken from all over the source, and some may be left over. Raises `InputError` if there are fewer than
    two captions.
    """

    def __init__(self, source: Source, most: int = CANDIDATES):
        of_caption: dict[bytes, list[int]] = defaultdict(list)
        for index in order(len(source)):
            of_caption[np.asarray(source[int(index)]["text"]).tobytes()].append(int(index))
        groups = list(of_caption.values())
        self.num_candidates = min(most, len(groups))
        if self.num_candidates < 2:
            raise InputError("the test images must have two captions or more that are encoded differently")
        self._source, self._sets = source, chosen(groups, self.num_candidates)

    def __len__(self) -> int:
        return len(self._sets)

    def __getitem__(self, index: int) -> Element:
        batch = examples(self._source, self._sets[index])
        return {name: batch[name] for name in ("image", "text")}


def chosen(groups: list[list[int]], num: int) -> list[list[int]]:
    """Form as many sets as possible of `num` members from different groups.

    >>> chosen([[0, 1, 2], [3], [4]], 2)
    [[2, 3], [1, 4]]
    """
    left = [(-len(group), k) for k, group in enumerate(groups)]
    heapq.heapify(left)
    sets = []
    while len(left) >= num:
        fullest = [heapq.heappop(left) for _ in range(num)]
        sets.append([groups[k][-size - 1] for size, k in fullest])
        for size, k in fullest:
            if size < -1:
                heapq.heappush(left, (size + 1, k))
    return sets


class RetrievalEvaluator:
    """Evaluates an image–text model with given variables; compiles once.

    Set k draws its noise from fold_in(key, k), at stratified times with its own offset, so the result does not depend
    on the batch size or the devices.
    """

    def __init__(self, model: ImageText, gamma: Schedule, mesh: Mesh, batch_size: int):
        """`gamma` is t → γ(t). A call takes about `batch_size` images."""
        self.model = model
        of_batch = functools.partial(set_sums, model, gamma)
        self._sums = OverNoise(of_batch, gamma, mesh, max(1, batch_size // CANDIDATES))
        self._sets: tuple[Source, Sets] | None = None

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> Retrieval:
        """Evaluate all sets of `source`, or enough for about `max_images` images, at `num_draws` noise levels each."""
        sets = self._sets_of(source)
        most = -(-max_images // sets.num_candidates)
        sums, _ = self._sums(variables, sets, key, num_draws, most, progress)
        image_to_text, text_to_image, loss = shares_over_noise(sums, num_draws)
        return Retrieval(
            loss.uniform,
            image_to_text,
            text_to_image,
            self._sums.edges,
            sets.num_candidates,
            len(sums.clean),
            num_draws,
            len(sets),
            len(source),
            self.model.precision,
        )

    def _sets_of(self, source: Source) -> Sets:
        if self._sets is None or self._sets[0] is not source:
            self._sets = source, Sets(source)
        return self._sets[1]


def set_sums(
    model: ImageText,
    gamma: Schedule,
    variables: Variables,
    key: PRNGKeyArray,
    batch: dict[str, Array],
    num_draws: Integer[ArrayLike, ""],
) -> Sums:
    """Return the sums of (share of captions found, share of images found, loss in nats) for each set of a batch.

    A batch has "image", "text" and "index".
    """
    keys = keys_at(key, batch["index"])
    x = likelihoods.encode(batch["image"], model.levels)
    num, size = x.shape[:2]
    texts = model.text_features(variables, joined(batch["text"])).reshape(num, size, -1)

    def at(gamma_t: Array, stream: Array) -> Array:
        z = gaussian.diffuse(x, image_noise(keys, stream, x.shape[1:]), gamma_t)
        images = model.image_features(variables, joined(z), jnp.repeat(gamma_t, size)).reshape(num, size, -1)
        logits = jnp.einsum("nif,ntf->nit", images, texts, precision=jax.lax.Precision.HIGHEST)
        own = jnp.arange(size)[None]
        found = [jnp.mean(jnp.argmax(logits, axis=axis) == own, axis=1) for axis in (2, 1)]
        loss = jax.vmap(lambda one: jnp.mean(contrastive(one, jnp.eye(size, dtype=bool))))(logits)
        return jnp.stack([*found, loss], axis=1)

    return sums_over_noise(at, gamma, keys, num_draws)


def joined(x: Array) -> Array:
    """Flatten sets into their members, one set after the other."""
    return x.reshape(-1, *x.shape[2:])
