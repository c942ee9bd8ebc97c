"""Whose conditions are dropped in training, and that each image's label is its own wherever a loss is computed."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conditional import LABEL
from jaxtyping import Array
from scipy import stats

from vdm import parallel, schedules
from vdm.data import Arrays, Dataset, in_memory, train_iterator
from vdm.evaluation.bound import Evaluator
from vdm.model import DROPPED, Model
from vdm.training.objective import Objective, loss_and_gradients

KEY, SHAPE, LEVELS, NUM = jax.random.key(11), (4, 4, 1), 17, 5


def label_of(images: Any) -> Any:
    """Of the pixels, whatever way the image is turned."""
    return (images.astype("int32").sum(axis=(-3, -2, -1)) % NUM).astype("int32")


class Reader(nn.Module):
    """x̂ = z/α of an image read off z of almost no noise, if the label is that of its pixels; else far from it.

    Where the condition is dropped, x̂ is a parameter, `none` of an own gradient.
    """

    @nn.compact
    def __call__(self, z: Array, gamma: Array, condition: dict[str, Array], train: bool = False) -> Array:
        none = self.param("none", nn.initializers.zeros, ())
        pixels = jnp.clip(jnp.round(((z + 1) * LEVELS - 1) / 2), 0, LEVELS - 1).astype(jnp.int32)
        wrong = (label_of(pixels) != condition["label"]).astype(jnp.float32)
        dropped = condition.get(DROPPED, jnp.zeros(z.shape[0], bool))
        x_hat = z + wrong.reshape(-1, 1, 1, 1)
        return jnp.where(dropped.reshape(-1, 1, 1, 1), z + 0.01 + none, x_hat)


def model(share: float = 0.0) -> Model:
    """σ is below 0.0004, a level 0.12."""
    return Model(schedules.linear(-17.0, -16.0), Reader(), SHAPE, LEVELS, "x", condition=LABEL, condition_dropout=share)


def images(num: int, seed: int = 0) -> dict[str, np.ndarray]:
    pixels = np.random.default_rng(seed).integers(0, LEVELS, (num, *SHAPE)).astype(np.uint8)
    return {"image": pixels, "label": label_of(pixels), "group": np.arange(num)}


def dataset(num: int = 64) -> Dataset:
    return in_memory(images(num), images(13, 1), levels=LEVELS, name="sums", classes="abcde")


def masks(share: float, num_keys: int, batch_size: int) -> np.ndarray:
    batch = {"image": jnp.zeros((batch_size, *SHAPE), jnp.uint8)}
    keys = jax.random.split(KEY, num_keys)
    return np.asarray(jax.jit(jax.vmap(lambda key: model(share).with_dropped(batch, key)[DROPPED]))(keys))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_is_as_asked(share: float) -> None:
    found = masks(share, 1000, 64)
    assert stats.binomtest(int(found.sum()), found.size, share).pvalue > 1e-4


def test_it_is_independent_of_the_position_and_of_the_neighbour() -> None:
    """χ² over the positions of the batch, and of each image with the next."""
    found = masks(0.2, 4000, 16)
    counts = found.sum(axis=0)
    assert stats.chisquare(counts).pvalue > 1e-4
    for other in (np.roll(found, 1, axis=1), np.roll(found, 1, axis=0)):
        table = [[np.sum((found == a) & (other == b)) for b in (False, True)] for a in (False, True)]
        assert stats.chi2_contingency(table).pvalue > 1e-4
    # And the number in a batch is binomial: neither a fixed one nor all or none.
    per_batch = np.bincount(found.sum(axis=1), minlength=17)[:9]
    expected = stats.binom.pmf(np.arange(9), 16, 0.2) * 4000
    assert stats.chisquare(per_batch, expected * per_batch.sum() / expected.sum()).pvalue > 1e-4


def test_it_does_not_read_the_labels() -> None:
    batch = {name: jnp.asarray(value) for name, value in images(32).items()}
    other = {**batch, "label": (batch["label"] + 1) % NUM, "image": batch["image"][::-1]}
    first, second = (model(0.3).with_dropped(each, KEY) for each in (batch, other))
    np.testing.assert_array_equal(first[DROPPED], second[DROPPED])
    assert first["label"] is batch["label"]


def test_without_a_share_or_a_condition_nothing_is_dropped() -> None:
    batch = {"image": jnp.zeros((4, *SHAPE), jnp.uint8)}
    assert model(0.0).with_dropped(batch, KEY) is batch
    unconditional = Model(schedules.linear(-17.0, -16.0), Reader(), SHAPE, LEVELS, condition_dropout=0.5)
    assert unconditional.with_dropped(batch, KEY) is batch


def step(batch: dict[str, np.ndarray], share: float, num_devices: int = 8, accumulate: int = 1) -> tuple[float, float]:
    """(diffusion loss in nats, gradient of `none`) of a training step."""
    which, mesh = model(share), parallel.make_mesh(num_devices)
    variables = which.init(jax.random.key(0))
    compiled = jax.jit(lambda b: loss_and_gradients(which, Objective(), variables, {}, KEY, b, accumulate, mesh))
    bound, gradients, _ = compiled(parallel.shard_batch(batch, mesh))
    return float(bound.diffusion) * 16 * np.log(2), float(gradients["network"]["none"])


def test_the_mask_is_the_same_on_1_and_8_devices_and_in_parts() -> None:
    """The gradient of `none` has a share of every image dropped, by its weight: another mask is another gradient."""
    batch = images(32)
    mask = np.asarray(
        model(0.4).with_dropped({k: jnp.asarray(v) for k, v in batch.items()}, jax.random.fold_in(KEY, 2))[DROPPED]
    )
    assert 3 < mask.sum() < 29
    reference = step(batch, 0.4, 1)
    # x̂ − x is 0.01 + noise of 0.0004 in each of 16 dimensions where dropped: ½ Δγ SNR 16 · 2 · 0.01, in bits/dim.
    t = np.asarray(model().draw(jax.random.split(KEY)[0], 32).t)
    slopes = np.exp(17 - t) * 0.01 / np.log(2)
    assert reference[1] == pytest.approx(np.sum(slopes[mask]) / 32, rel=0.02)
    for num_devices, accumulate in ((8, 1), (1, 2), (8, 2)):
        np.testing.assert_allclose(step(batch, 0.4, num_devices, accumulate), reference, rtol=1e-4)


def losses(batches: list[dict[str, np.ndarray]]) -> list[float]:
    """With the right label, ½ ∫ SNR ‖x − x̂‖² = ½ ‖ε‖² over γ from −17 to −16: 8 nats; else 16/2 · SNR, 10⁸."""
    which, mesh = model(), parallel.make_mesh(8)
    variables = which.init(jax.random.key(0))
    compiled = jax.jit(lambda b: loss_and_gradients(which, Objective(), variables, {}, KEY, b, 1, mesh)[0].diffusion)
    return [float(compiled(parallel.shard_batch(batch, mesh))) * 16 * np.log(2) for batch in batches]


@pytest.mark.parametrize(
    ("processes", "workers", "augmentations"), [(1, 0, ()), (2, 0, ("flip",)), (1, 2, ("rotate90", "flip"))]
)
def test_labels_reach_the_loss_with_their_images(processes: int, workers: int, augmentations: tuple[str, ...]) -> None:
    """Shuffled over epochs, in shares of several processes, read by workers, turned and flipped."""
    shares = []
    for process in range(processes):
        batches = train_iterator(
            dataset(),
            batch_size=24,
            seed=3,
            augmentations=augmentations,
            num_workers=workers,
            process_index=process,
            process_count=processes,
        )
        shares.append([next(batches) for _ in range(6)])
        batches.close()
    found = [
        {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
        for parts in zip(*shares, strict=True)
    ]
    original = images(64)["image"]
    moved = np.mean([np.any(batch["image"] != original[batch["group"]]) for batch in found])
    assert (moved > 0) == bool(augmentations)
    # Shuffled, and over the end of an epoch.
    assert (np.diff(found[0]["group"]) != 1).any()
    assert max(losses(found)) < 12
    wrong = [{**batch, "label": np.roll(batch["label"], 1)} for batch in found[:1]]
    assert min(losses(wrong)) > 1e5


def test_labels_reach_the_bound_with_their_images_and_with_padding() -> None:
    """13 images in batches of 8 on 8 devices: the last has three images to fill it up, in no result."""
    which = model()
    evaluator = Evaluator(which, parallel.make_mesh(8), 8)
    variables = which.init(jax.random.key(0))
    found = evaluator.estimates(variables, dataset().test, KEY, 4).terms[0, 2]
    assert found.shape == (13,)
    assert found.max() < 30
    arrays = images(13, 1)
    wrong = Arrays({**arrays, "label": (arrays["label"] + 1) % NUM})
    assert evaluator.estimates(variables, wrong, KEY, 4).terms[0, 2].min() > 1e5
