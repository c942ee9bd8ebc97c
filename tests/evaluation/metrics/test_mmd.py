"""MMD² against its definition in float64 and against the closed form for Gaussians; its noise floor."""

import numpy as np
import pytest

from vdm.evaluation.metrics import Reference
from vdm.evaluation.metrics.mmd import SCALES, Mmd, mmd
from vdm.evaluation.statistics import jackknife

SHAPE, LEVELS = (3, 3, 1), 256


def images(num: int, seed: int, mean: float = 128.0, std: float = 30.0) -> np.ndarray:
    pixels = np.random.default_rng(seed).normal(mean, std, size=(num, *SHAPE))
    return np.clip(np.round(pixels), 0, LEVELS - 1).astype(np.uint8)


def features(images: np.ndarray) -> np.ndarray:
    return vectors(images).astype(np.float32)


def of(real: np.ndarray) -> Mmd:
    return Mmd(Reference.of(features(real)))


@pytest.fixture(scope="module")
def quality() -> Mmd:
    return of(images(300, 0))


def vectors(x: np.ndarray) -> np.ndarray:
    return (2 * x.reshape(len(x), -1).astype(np.float64) + 1) / LEVELS - 1


def test_it_is_the_unbiased_estimate_of_its_definition(quality: Mmd) -> None:
    real, samples = images(300, 0), images(40, 1, mean=140.0)
    x, y = vectors(samples), vectors(real)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        distance = np.sum((a - b) ** 2)
        return float(np.mean([np.exp(-distance / (2 * scale * quality.median)) for scale in SCALES]))

    def mean_pairs(a: np.ndarray) -> float:
        return float(np.mean([kernel(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j]))

    few = of(real[:30])
    few.median = quality.median
    expected = mean_pairs(x) + mean_pairs(y[:30]) - 2 * np.mean([kernel(a, b) for a in x for b in y[:30]])
    np.testing.assert_allclose(few.estimate(features(samples)).value, expected, atol=1e-6)


def test_the_median_is_that_of_distances_between_different_images(quality: Mmd) -> None:
    x = vectors(images(300, 0))
    pairs = [np.sum((x[i] - x[j]) ** 2) for i in range(300) for j in range(i)]
    # Over 22 500 of the 44 850 pairs.
    np.testing.assert_allclose(quality.median, np.median(pairs), rtol=0.03)


def test_gaussians_of_other_means_come_out_at_the_closed_form() -> None:
    """E k(x, y) of N(m, s²) and N(m', s²) pixels is (1 + 2 s²/h)^{−d/2} exp(−d (m−m')²/(2 (h + 2 s²)))."""
    quality, std, dims = of(images(2000, 0)), 30 * 2 / LEVELS, 9
    shift = 10 * 2 / LEVELS

    def mean_kernel(distance: float) -> float:
        widths = np.array(SCALES) * quality.median
        total = widths + 2 * std**2
        return float(np.mean((widths / total) ** (dims / 2) * np.exp(-dims * distance**2 / (2 * total))))

    exact = 2 * mean_kernel(0) - 2 * mean_kernel(shift)
    estimates = [quality.estimate(features(images(500, seed, mean=138.0))).value for seed in range(1, 9)]
    stderr = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    # The real images are the same each time: their noise is added.
    assert abs(np.mean(estimates) - exact) < 4 * stderr + 3 * quality.noise_floor(1000)
    assert exact > 10 * quality.noise_floor(500)


def test_real_images_are_at_the_noise_floor_and_worse_ones_are_not() -> None:
    quality = of(images(600, 0))
    floor = quality.noise_floor(200)
    assert floor > 0
    assert abs(quality.estimate(features(images(200, 5))).value) < 4 * floor
    assert quality.estimate(features(images(200, 5, std=45.0))).value > 4 * floor
    # More images, less noise.
    assert quality.noise_floor(300) < quality.noise_floor(30)


def test_the_reference_is_from_all_over_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real images of a sorted source are at the noise floor, where a source is larger than the reference too."""
    brightness = np.linspace(60.0, 190.0, 1000)[:, None, None, None]
    pixels = np.random.default_rng(0).normal(brightness, 20.0, size=(1000, *SHAPE))
    real = np.clip(np.round(pixels), 0, LEVELS - 1).astype(np.uint8)
    monkeypatch.setattr("vdm.evaluation.metrics.mmd.MAX_REFERENCE", 300)
    quality = of(real)
    assert len(quality.real) == 300
    for seed in range(3):
        some = quality.estimate(features(real[np.random.default_rng(seed).choice(1000, 150, replace=False)]))
        assert abs(some.value) < 3 * some.stderr
        assert abs(some.value) < 4 * quality.noise_floor(150)


def test_the_noise_floor_is_that_of_other_images(quality: Mmd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each split the two parts are disjoint; and it is what fresh real images come to."""
    parts = []
    mmd_of = Mmd._mmd
    monkeypatch.setattr(Mmd, "_mmd", lambda self, x, y: parts.append((x, y)) or mmd_of(self, x, y))
    floor = quality.noise_floor(100)
    for x, y in parts:
        assert (len(x), len(y)) == (100, 200)
        assert len(np.unique(np.concatenate([x, y]), axis=0)) == 300
    # Of 200 fresh ones; splits of 300 images have less to differ by, and are 20.
    fresh = [quality.estimate(features(images(100, seed))).value for seed in range(1, 201)]
    assert 0.5 < floor / np.sqrt(np.mean(np.square(fresh))) < 1.7


@pytest.mark.parametrize("num", [1, 20])
def test_images_without_distances_are_refused(num: int) -> None:
    with pytest.raises(ValueError, match=f"real images: among {num}, most pairs are equal"):
        of(np.zeros((num, *SHAPE), np.uint8))


def test_the_estimate_leaves_each_image_out(quality: Mmd) -> None:
    samples = images(12, 1, mean=140.0)
    estimate = quality.estimate(features(samples))
    expected = [quality.estimate(features(np.delete(samples, i, axis=0))).value for i in range(12)]
    # Float32 means of kernels, up to 1 each.
    np.testing.assert_allclose(estimate.without, expected, atol=1e-6)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=20)
    without = (values.sum() - values) / 19
    np.testing.assert_allclose(jackknife(without), values.std(ddof=1) / np.sqrt(20), rtol=1e-12)


@pytest.mark.parametrize(("mean", "std", "most"), [(150.0, 30.0, 1.15), (128.0, 30.0, 1.6)])
def test_the_standard_error_is_that_of_replicates(quality: Mmd, mean: float, std: float, most: float) -> None:
    """Of worse images to a tenth or so; of images as good as data, where the jackknife is high, by up to √2."""
    estimates = [quality.estimate(features(images(100, seed, mean, std))) for seed in range(1, 201)]
    spread = np.std([e.value for e in estimates], ddof=1)
    stated = np.sqrt(np.mean([e.stderr**2 for e in estimates]))
    # A deviation from 200 draws is known to 1/√398: within three of them.
    assert 1 - 3 / np.sqrt(398) < stated / spread < most + 3 / np.sqrt(398)


def test_paired_images_have_differences_known_better(quality: Mmd) -> None:
    """The same draws a little brighter: the difference varies less than independent errors say, and as stated."""
    pairs = [[quality.estimate(features(images(60, seed, mean))) for mean in (140.0, 145.0)] for seed in range(1, 201)]
    spread = np.std([b.value - a.value for a, b in pairs], ddof=1)
    stated = np.sqrt(np.mean([jackknife(b.without - a.without) ** 2 for a, b in pairs]))
    independent = np.sqrt(np.mean([a.stderr**2 + b.stderr**2 for a, b in pairs]))
    assert abs(stated / spread - 1) < 3 / np.sqrt(398) + 0.1
    assert stated < independent / 2


@pytest.mark.parametrize("num", [1, 2])
def test_too_few_images_for_an_error_are_refused(quality: Mmd, num: int) -> None:
    with pytest.raises(ValueError, match=f"images: {num} of them; must be 3 or more"):
        quality.estimate(features(images(num, 0)))


def test_it_is_shown_a_thousandfold(quality: Mmd) -> None:
    metric = mmd()
    assert metric.heading() == "1000 MMD²"
    assert metric.show(0.0125) == "12.50"
    assert metric.prepare(Reference.of(features(images(300, 0)))).noise_floor(30) == quality.noise_floor(30)
