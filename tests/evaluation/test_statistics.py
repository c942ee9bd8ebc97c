"""Standard errors by group."""

import numpy as np

from vdm.evaluation.statistics import stderr_over, stderr_over_images

RNG = np.random.default_rng(0)


def test_of_single_images_it_is_the_usual_one() -> None:
    values = RNG.normal(size=40)
    usual = values.std(ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(stderr_over_images(values), usual)
    np.testing.assert_allclose(stderr_over_images(values, RNG.permutation(40) * 7), usual)
    assert stderr_over_images(values[:1]) is None
    assert stderr_over_images(values, np.full(40, 3)) is None


def test_of_equal_groups_it_is_that_of_their_means() -> None:
    """In any order, and with any numbers for the groups."""
    values = RNG.normal(size=(12, 5)) + 3 * RNG.normal(size=(12, 1))
    means, groups = values.mean(axis=1), np.repeat(10 * RNG.permutation(12), 5)
    shuffled = RNG.permutation(60)
    found = stderr_over_images(values.ravel()[shuffled], groups[shuffled])
    np.testing.assert_allclose(found, means.std(ddof=1) / np.sqrt(12))
    assert stderr_over(groups) == "groups (12)"


def test_it_covers_the_spread_of_estimates_whose_groups_differ_in_size() -> None:
    """Of 400 estimates from 40 groups of 1 to 10 images; single images as independent would say half of it."""
    found = []
    for _ in range(400):
        sizes = RNG.integers(1, 11, 40)
        groups = np.repeat(np.arange(40), sizes)
        values = RNG.normal(size=40)[groups] + 0.3 * RNG.normal(size=len(groups))
        found.append((values.mean(), stderr_over_images(values, groups), stderr_over_images(values)))
    means, by_group, by_image = np.array(found, float).T
    # A deviation of 400 is known to 3.5%; the error of 40 groups is a little low.
    np.testing.assert_allclose(np.sqrt(np.mean(by_group**2)), means.std(), rtol=0.15)
    assert np.mean(by_image) < 0.6 * means.std()
