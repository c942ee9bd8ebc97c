"""KID against its definition, unbiased over seeds, each image left out of the subsets, its standard error."""

import numpy as np
import pytest

from vdm import parts
from vdm.evaluation.metrics import Reference
from vdm.evaluation.metrics.kid import Kid, kernel_distance

DIMS = 6


def draws(num: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3 + shift, 1, size=(num, DIMS)).astype(np.float32)


def directly(x: np.ndarray, y: np.ndarray) -> float:
    """MMD² of all pairs that are different images."""

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        kernel = (a.astype(np.float64) @ b.T / DIMS + 1) ** 3
        return (kernel.sum() - same * np.trace(kernel)) / (len(a) * (len(b) - same))

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def test_of_all_images_it_is_the_definition_and_each_is_left_out_exactly() -> None:
    x, y = draws(12, 0, 0.5), draws(12, 1)
    estimate = kernel_distance(x, y, subsets=1, size=12)
    # Float32 kernels, of about 8.
    np.testing.assert_allclose(estimate.value, directly(x, y), atol=1e-6)
    expected = [directly(np.delete(x, k, axis=0), y) for k in range(12)]
    np.testing.assert_allclose(estimate.without, expected, atol=1e-6)


def test_an_image_in_no_subset_changes_nothing() -> None:
    x = draws(40, 0, 0.5)
    estimate = kernel_distance(x, draws(30, 1), subsets=3, size=8)
    chosen = np.zeros(40, bool)
    rng = np.random.RandomState(2020)
    for _ in range(3):
        chosen[rng.choice(40, 8, replace=False)] = True
        rng.choice(30, 8, replace=False)
    assert np.count_nonzero(~chosen) > 0
    np.testing.assert_array_equal(estimate.without != estimate.value, chosen)


def test_it_is_unbiased() -> None:
    """E (1 + x·y/d)³ of Gaussians, by the moments of x·y."""
    repeats = 400
    for shift in (0.0, 0.2):
        values = [kernel_distance(draws(20, 2 * k, shift), draws(20, 2 * k + 1), 1, 20).value for k in range(repeats)]
        exact = mean_kernel(0.3 + shift, 0.3 + shift) + mean_kernel(0.3, 0.3) - 2 * mean_kernel(0.3 + shift, 0.3)
        assert abs(np.mean(values) - exact) < 4 * np.std(values, ddof=1) / np.sqrt(repeats)


def mean_kernel(a: float, b: float) -> float:
    """Of x ~ N(a, 1)^d and y ~ N(b, 1)^d: x·y is a sum of d independent products, whose cumulants add."""
    xs, ys = ((c, 1 + c**2, c**3 + 3 * c) for c in (a, b))
    first, second, third = (p * q for p, q in zip(xs, ys, strict=True))
    cumulants = np.array([first, second - first**2, third - 3 * first * second + 2 * first**3]) * DIMS
    m1, variance, k3 = cumulants / DIMS ** np.arange(1, 4)
    m2, m3 = variance + m1**2, k3 + 3 * m1 * variance + m1**3
    return float(1 + 3 * m1 + 3 * m2 + m3)


def test_the_standard_error_is_that_of_replicates() -> None:
    repeats, real = 150, draws(300, 0)
    estimates = [kernel_distance(draws(60, k, 0.5), real, 10, 40) for k in range(1, repeats + 1)]
    spread = np.std([e.value for e in estimates], ddof=1)
    stated = np.sqrt(np.mean([e.stderr**2 for e in estimates]))
    # The subsets' real images are part of what the value depends on, and the same each time.
    assert 1 - 3 / np.sqrt(2 * repeats) < stated / spread < 1.15 + 3 / np.sqrt(2 * repeats)


def test_real_images_are_at_the_noise_floor_and_others_are_not() -> None:
    measure = parts.make("metric", "kid(subsets=10, size=50)").prepare(Reference.of(draws(600, 0)))
    assert isinstance(measure, Kid)
    floor = measure.noise_floor(100)
    assert floor > 0
    assert abs(measure.estimate(draws(100, 1)).value) < 5 * floor
    assert measure.estimate(draws(100, 1, 0.5)).value > 5 * floor


def test_fewer_images_than_a_subset() -> None:
    measure = Kid(5, 100, Reference.of(draws(200, 0)))
    assert measure.cautions(100) == ()
    assert measure.cautions(60)[0].startswith("subsets of 60 images, as there are no more, rather than 100")
    assert np.isfinite(measure.estimate(draws(60, 1)).value)
    with pytest.raises(ValueError, match="images: 2 of them, 200 real ones; must be 3 or more"):
        measure.estimate(draws(2, 0))
    for wrong in ("subsets=0", "size=2"):
        with pytest.raises(ValueError, match="must be 1 or more, of 3 images or more"):
            parts.make("metric", f"kid({wrong})")
