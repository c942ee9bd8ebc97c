"""FID∞: without the bias of FID, with little more noise, and with a standard error that has the extrapolation's."""

import functools

import numpy as np
import pytest

from vdm.evaluation.metrics import Estimate, Reference
from vdm.evaluation.metrics.frechet import estimate, frechet_distance, target
from vdm.evaluation.metrics.frechet_infinity import FrechetInfinity, extrapolated, fid_infinity, sizes_and_weights

from .test_frechet import draws, exactly, gaussian

REPEATS, NUM, DIMS = 50, 300, 8


@functools.cache
def replicates(shift: float, other: float) -> tuple[list[Estimate], list[Estimate], float]:
    """(FID∞ of many sets of images, their FID, the exact distance)"""
    rng = np.random.default_rng(0)
    real, samples = exactly(gaussian(DIMS, 0)), gaussian(DIMS, 0, shift, other)
    of, sets = target(real), [draws(NUM, samples, rng) for _ in range(REPEATS)]
    exact = frechet_distance(exactly(samples), real)
    return [extrapolated(x, of) for x in sets], [estimate(x, of) for x in sets], exact


def test_the_bias_in_the_number_of_images_is_gone() -> None:
    *estimates, exact = replicates(0.05, 0.05)
    infinite, finite = ([e.value for e in each] for each in estimates)
    stderr = np.std(infinite, ddof=1) / np.sqrt(REPEATS)
    assert abs(np.mean(infinite) - exact) < 4 * stderr
    assert np.mean(finite) - exact > 4 * stderr


@pytest.mark.parametrize(("shift", "other", "most"), [(0.3, 0.3, 1.2), (0.05, 0.05, 1.8)])
def test_its_standard_error_is_that_of_replicates(shift: float, other: float, most: float) -> None:
    """Of the extrapolation too; of images nearly as good as data it is too large, as that of FID is."""
    infinite = replicates(shift, other)[0]
    spread = np.std([e.value for e in infinite], ddof=1)
    stated = np.sqrt(np.mean([e.stderr**2 for e in infinite]))
    slack = 3 / np.sqrt(2 * (REPEATS - 1))
    assert 1 - slack < stated / spread < most + slack


def test_subsets_add_little_noise() -> None:
    """They would add two fifths, were each image's influence not taken off."""
    infinite, finite = (np.std([e.value for e in each], ddof=1) for each in replicates(0.3, 0.3)[:2])
    assert infinite < 1.2 * finite


def test_it_is_the_same_each_time_and_a_line_is_met() -> None:
    x = draws(50, gaussian(4, 0), np.random.default_rng(0))
    of = target(exactly(gaussian(4, 1)))
    assert extrapolated(x, of).value == extrapolated(x, of).value
    sizes, weights = sizes_and_weights(50_000)
    assert (len(sizes), sizes[0], sizes[-1]) == (15, 5000, 50_000)
    np.testing.assert_allclose([weights.sum(), weights @ (1 / sizes)], [1, 0], atol=1e-12)


def test_images_and_features_that_are_too_few() -> None:
    rng = np.random.default_rng(0)
    measure = FrechetInfinity(Reference.of(draws(100, gaussian(4, 0), rng)))
    with pytest.raises(ValueError, match="images: 29 of them; must be 30 or more"):
        measure.estimate(draws(29, gaussian(4, 0), rng))
    (caution,) = measure.cautions(79)
    assert caution.startswith("the smallest subset has 7 images of 4 features: the distance is not linear in 1/n there")
    assert measure.cautions(80) == ()
    assert measure.noise_floor(50) > 0
    assert fid_infinity().title == "FID∞"
