"""Memorisation: the nearest training images, ratios of new images and of copies, standard errors."""

import numpy as np
import pytest

from vdm import parts
from vdm.evaluation.metrics import Reference, distances
from vdm.evaluation.metrics.memorization import Memorization, nearest, ratio_of_medians, share_near
from vdm.evaluation.statistics import jackknife


def draws(num: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 1, size=(num, 12)).astype(np.float32)


TRAIN, TEST = draws(400, 0), draws(300, 1)


def measure(name: str) -> Memorization:
    return parts.make("metric", name).prepare(Reference.of(TRAIN, TEST))


def test_the_nearest_image_and_its_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", 16)
    x = np.concatenate([draws(30, 2), TRAIN[[7, 3]]])
    indices, lengths = nearest(x, TRAIN)
    apart = np.linalg.norm(x[:, None].astype(np.float64) - TRAIN[None], axis=-1)
    np.testing.assert_array_equal(indices, apart.argmin(axis=1))
    np.testing.assert_allclose(lengths, apart.min(axis=1), rtol=1e-12)
    # Of copies it is 0, not rounding.
    assert indices[-2:].tolist() == [7, 3]
    assert lengths[-2:].tolist() == [0, 0]


def test_new_images_are_as_far_as_test_images_and_copies_are_near() -> None:
    new, copies = draws(300, 3), TRAIN[:300] + np.float32(1e-3)
    ratio, share = measure("memorization"), measure("copies")
    estimate = ratio.estimate(new)
    assert abs(estimate.value - 1) < 4 * np.hypot(estimate.stderr, ratio.estimate(TEST).stderr)
    assert ratio.estimate(copies).value < 0.01
    assert share.estimate(copies).value == 1
    assert share.estimate(new).value < 0.04
    # A tenth of copies: medians tell little of it, the share all.
    mixed = np.concatenate([new[:270], copies[:30]])
    assert ratio.estimate(mixed).value > 0.95
    few = share.estimate(mixed)
    assert few.value > 0.1
    assert few.value - 0.01 > 4 * few.stderr
    assert ratio.noise_floor(150) == pytest.approx(1, abs=0.1)
    assert share.noise_floor(100) < 0.06


@pytest.mark.parametrize(("statistic", "most"), [(ratio_of_medians, 1.25), (share_near, 1.1)])
def test_the_standard_error_is_that_of_replicates(statistic, most: float) -> None:
    rng, repeats = np.random.default_rng(0), 150
    others = rng.exponential(size=500)
    estimates = [statistic(rng.exponential(0.3, size=1000), others) for _ in range(repeats)]
    spread = np.std([e.value for e in estimates], ddof=1)
    stated = np.sqrt(np.mean([jackknife(e.without) ** 2 for e in estimates]))
    assert 0.85 < stated / spread < most


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no test split"):
        parts.make("metric", "memorization").prepare(Reference.of(TRAIN))
    with pytest.raises(ValueError, match="images: 99 of them; must be 100 or more"):
        measure("memorization").estimate(draws(99, 3))
    with pytest.raises(ValueError, match="images: 1 of them; must be 2 or more"):
        measure("copies").estimate(draws(1, 3))
    same = parts.make("metric", "memorization").prepare(Reference.of(TRAIN, TRAIN[:150]))
    with pytest.raises(ValueError, match="most test images are training images too"):
        same.estimate(draws(100, 3))
    assert measure("copies").cautions(100) == ()
    few = parts.make("metric", "copies").prepare(Reference.of(TRAIN, TEST[:50]))
    assert few.cautions(100) == ("only 50 test images to compare with",)
