"""The Fréchet distance: closed forms, covariances without rank, its bias, each image left out, its standard error."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.special import gammaln

from vdm.evaluation.metrics import Reference, frechet
from vdm.evaluation.metrics.frechet import Frechet, Target, bias, estimate, frechet_distance, target
from vdm.evaluation.metrics.moments import Moments, moments


def gaussian(dims: int, seed: int, shift: float = 0.0, other: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(mean, A with covariance A Aᵀ), of variances over three decades."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dims, dims)) * np.exp(-3.5 * np.arange(dims) / dims)
    return np.full(dims, shift), mixing + other * np.random.default_rng(seed + 1).normal(size=(dims, dims))


def draws(num: int, of: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    mean, mixing = of
    return (rng.normal(size=(num, len(mean))) @ mixing.T + mean).astype(np.float32)


def exactly(of: tuple[np.ndarray, np.ndarray]) -> Moments:
    return Moments(1 << 30, of[0], of[1] @ of[1].T)


def test_it_is_that_of_gaussians_in_closed_form() -> None:
    """Of covariances that commute, Σ (√λ_a − √λ_b)²; and in general by a matrix square root."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b, means = rng.exponential(size=6), rng.exponential(size=6), rng.normal(size=(2, 6))
    distance = frechet_distance(
        Moments(9, means[0], (basis * a) @ basis.T), Moments(9, means[1], (basis * b) @ basis.T)
    )
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    np.testing.assert_allclose(distance, expected, rtol=1e-12)
    one, two = exactly(gaussian(6, 1)), exactly(gaussian(6, 2, shift=1.0))
    root = np.trace(sqrtm(one.cov @ two.cov).real)
    np.testing.assert_allclose(
        frechet_distance(one, two), 6 + np.trace(one.cov) + np.trace(two.cov) - 2 * root, rtol=1e-9
    )


@pytest.mark.parametrize("num", [5, 8, 9, 60])
def test_identical_sets_are_at_0(num: int) -> None:
    x = draws(num, gaussian(8, 0, shift=3.0), np.random.default_rng(0))
    scale = np.trace(moments(x).cov)
    # Of fewer images than features the samples are their own factor, and the reference's is of eigenvalues: √1e-16.
    assert abs(estimate(x, target(moments(x))).value) < 1e-7 * scale
    assert abs(frechet_distance(moments(x), moments(x))) < 1e-11 * scale


def test_constant_and_repeated_features_change_nothing_but_the_means() -> None:
    rng = np.random.default_rng(0)
    x, y = draws(50, gaussian(4, 0), rng), draws(40, gaussian(4, 1), rng)
    alone = estimate(x, target(moments(y)))
    wider = [np.concatenate([z, np.full((len(z), 2), c, np.float32)], axis=1) for z, c in ((x, 0.3), (y, 0.1))]
    constant = estimate(wider[0], target(moments(wider[1])))
    np.testing.assert_allclose(constant.value, alone.value + 2 * (np.float32(0.3) - np.float32(0.1)) ** 2, rtol=1e-7)
    np.testing.assert_allclose(constant.without - constant.value, alone.without - alone.value, rtol=1e-6, atol=1e-7)
    # Each feature twice: all distances are twice as large.
    twice = estimate(np.tile(x, 2), target(moments(np.tile(y, 2))))
    np.testing.assert_allclose(twice.value, 2 * alone.value, rtol=1e-6)
    np.testing.assert_allclose(twice.without, 2 * alone.without, rtol=1e-6)
    same = estimate(np.ones((9, 3), np.float32), target(moments(np.ones((7, 3), np.float32))))
    assert (same.value, same.stderr) == (0.0, 0.0)


def test_a_missing_direction_counts_with_all_its_variance() -> None:
    """Samples in a plane, real images in space: the third variance is lost, exactly."""
    flat, full = np.diag([1.0, 2.0, 0.0]), np.diag([1.0, 2.0, 3.0])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    means = np.zeros(3)
    distance = frechet_distance(Moments(9, means, turn @ flat @ turn.T), Moments(9, means, turn @ full @ turn.T))
    np.testing.assert_allclose(distance, 3.0, rtol=1e-12)


@pytest.mark.parametrize(("num", "real", "dims"), [(20, 300, 4), (12, 40, 16), (17, 60, 16), (15, 9, 12), (3, 30, 5)])
def test_each_image_is_left_out_exactly(num: int, real: int, dims: int) -> None:
    rng = np.random.default_rng(num)
    x, of = draws(num, gaussian(dims, 0, 0.3, 0.2), rng), target(moments(draws(real, gaussian(dims, 0), rng)))
    brute = [directly(np.delete(x, k, axis=0), of) for k in range(num)]
    np.testing.assert_allclose(estimate(x, of).without, brute, rtol=1e-7)


def directly(x: np.ndarray, of: Target) -> float:
    """By singular values of the samples themselves, for two of them too."""
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    roots = np.linalg.svd(centred @ of.factor / np.sqrt(len(x) - 1), compute_uv=False)
    apart = np.sum((x.mean(axis=0, dtype=np.float64) - of.mean) ** 2)
    return float(apart + np.sum(centred**2) / (len(x) - 1) + of.trace - 2 * roots.sum())


def test_singular_values_come_out_over_fourteen_decades() -> None:
    rng = np.random.default_rng(0)
    for rows, columns in ((12, 12), (20, 12), (12, 20)):
        left, right = (np.linalg.qr(rng.normal(size=(size, 12)))[0] for size in (rows, columns))
        values = np.geomspace(1, 1e-14, 12)
        found, vectors = frechet.singular((left * values) @ right.T)
        np.testing.assert_allclose(np.sort(found)[::-1], values, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=1e-10)


REPEATS = 200


@pytest.mark.parametrize("num", [10, 17, 120])
@pytest.mark.parametrize(("shift", "other", "most"), [(0.5, 0.4, 1.15), (0.0, 0.0, 1.7)])
def test_the_standard_error_is_that_of_replicates(num: int, shift: float, other: float, most: float) -> None:
    """Also of fewer images than the 16 features; never too small; of images as good as data too large, as of MMD²."""
    rng = np.random.default_rng(0)
    of, samples = target(exactly(gaussian(16, 0))), gaussian(16, 0, shift, other)
    estimates = [estimate(draws(num, samples, rng), of) for _ in range(REPEATS)]
    spread = np.std([e.value for e in estimates], ddof=1)
    stated = np.sqrt(np.mean([e.stderr**2 for e in estimates]))
    slack = 3 / np.sqrt(2 * (REPEATS - 1))
    assert 1 - slack < stated / spread < most + slack


def test_the_bias_is_that_of_gaussians() -> None:
    """Of their own distribution's samples, to first order in 1/n; of one feature by the mean of a χ distribution."""
    num = 500
    mean_std = np.sqrt(2 / (num - 1)) * np.exp(gammaln(num / 2) - gammaln((num - 1) / 2))
    assert bias(num, Moments(9, np.zeros(1), np.eye(1))) == pytest.approx(1 / num + 2 * (1 - mean_std), rel=2 / num)
    rng, repeats = np.random.default_rng(0), 400
    real, of = exactly(gaussian(3, 0)), target(exactly(gaussian(3, 0)))
    values = np.array([estimate(draws(300, gaussian(3, 0), rng), of).value for _ in range(repeats)])
    assert abs(values.mean() - bias(300, real)) < 4 * values.std(ddof=1) / np.sqrt(repeats)
    assert bias(600, real) == pytest.approx(bias(300, real) / 2)


def test_the_noise_floor_is_what_real_images_come_to() -> None:
    rng = np.random.default_rng(0)
    of = gaussian(6, 0)
    measure = Frechet(Reference.of(draws(2000, of, rng)))
    fresh = [estimate(draws(200, of, rng), measure.target).value for _ in range(50)]
    assert measure.noise_floor(200) == pytest.approx(np.mean(fresh), abs=3 * np.std(fresh))
    assert measure.noise_floor(900) < measure.noise_floor(100)
    # From mean and covariance alone.
    known = Frechet(Reference(2000, 6, known=lambda: measure.reference.moments))
    assert known.estimate(draws(50, of, rng)).value > 0
    assert known.noise_floor(200) == pytest.approx(np.mean(fresh), rel=0.3)


def test_the_noise_floor_is_of_as_many_images_though_halves_are_farther_apart() -> None:
    rng = np.random.default_rng(0)
    of = gaussian(6, 0)
    floors, fresh = [], []
    for _ in range(60):
        measure = Frechet(Reference.of(draws(200, of, rng)))
        floors.append(measure.noise_floor(400))
        fresh.append(measure.estimate(draws(400, of, rng)).value)
    stderr = np.sqrt((np.var(floors, ddof=1) + np.var(fresh, ddof=1)) / 60)
    assert abs(np.mean(floors) - np.mean(fresh)) < 3 * stderr
    # Unscaled, it would be 2.7 times as much.
    assert 1.7 * np.mean(fresh) > 4 * stderr


def test_the_noise_floor_is_of_the_images_whatever_statistics_are_known() -> None:
    x = draws(40, gaussian(5, 0), np.random.default_rng(0))
    of_others = Moments(1 << 62, np.ones(5), 3 * np.eye(5))
    known = Frechet(Reference(40, 5, rows=lambda limit: x, known=lambda: of_others))
    assert known.noise_floor(20) == Frechet(Reference.of(x)).noise_floor(20)


def test_what_is_left_of_a_whole_without_a_part() -> None:
    x = draws(30, gaussian(5, 0, shift=2.0), np.random.default_rng(0))
    rest = frechet.without(moments(x), moments(x[:11]))
    assert rest.num == 19
    for found, expected in zip(rest[1:], moments(x[11:])[1:], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_too_few_images_are_said() -> None:
    measure = Frechet(Reference.of(draws(400, gaussian(20, 0), np.random.default_rng(0))))
    (line,) = measure.cautions(20)
    assert line.startswith("20 images are no more than the 20 features: their covariance has rank 19 at most")
    (line,) = measure.cautions(99)
    assert f"too high by about {bias(99, measure.reference.moments):.2g}" in line
    assert measure.cautions(100) == ()
    few = Frechet(Reference.of(draws(15, gaussian(20, 0), np.random.default_rng(0))))
    assert few.cautions(100) == ("15 real images are no more than the 20 features: their covariance is singular",)
    with pytest.raises(ValueError, match="images: 2 of them; must be 3 or more"):
        measure.estimate(np.ones((2, 20), np.float32))
