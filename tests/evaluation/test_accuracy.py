"""How often a classifier is right: the exact one as often as Bayes says, by γ, and sums as numpy has them."""

import classifying
import jax
import numpy as np
import pytest
from classifying import GAMMA_0, GAMMA_1, IMAGES, gamma

from vdm import parallel
from vdm.data import Arrays
from vdm.evaluation.accuracy import AccuracyEvaluator, to_accuracy
from vdm.evaluation.by_noise import GAMMA_BINS, Sums

KEY = jax.random.key(0)
NUM, DRAWS = 500, 32
LABEL = np.random.default_rng(0).integers(0, 2, NUM)
SOURCE = Arrays({"image": IMAGES[LABEL], "label": LABEL})


@pytest.fixture(scope="module")
def evaluator():
    return AccuracyEvaluator(classifying.exact(), gamma, parallel.make_mesh(), batch_size=200)


@pytest.fixture(scope="module")
def found(evaluator):
    with jax.numpy_dtype_promotion("standard"):
        return evaluator({"network": {}}, SOURCE, KEY, DRAWS)


def test_the_exact_classifier_is_as_good_as_bayes_says(found):
    for share, which in ((found.cross_entropy, 0), (found.accuracy, 1)):
        wanted = classifying.over_times(which)
        assert share.stderr < 0.02
        assert abs(share.value - wanted) < 4 * share.stderr
    assert found.clean.value == 1
    assert found.total == found.cross_entropy.value
    assert (found.num_images, found.num_draws, found.num_classes) == (NUM, DRAWS, 2)


def test_by_gamma_too(found):
    centers = (found.edges[:-1] + found.edges[1:]) / 2
    np.testing.assert_allclose(found.edges, np.linspace(GAMMA_0, GAMMA_1, GAMMA_BINS + 1))
    for center, share in zip(centers, found.by_gamma, strict=True):
        # Within a bin the accuracy is all but a straight line; where it is 1 but for an event too rare to be seen, its
        # error is found to be 0.
        assert abs(share.value - classifying.bayes(center)[1]) < 4 * share.stderr + 0.01, center
    assert found.by_gamma[0].value == 1
    assert abs(found.by_gamma[-1].value - 0.5) < 0.1


def test_images_have_their_own_noise_whatever_the_batch(evaluator, found):
    """On one device here, on eight there."""
    alone = AccuracyEvaluator(evaluator.classifier, gamma, parallel.make_mesh(1), batch_size=72)
    again = alone({"network": {}}, SOURCE, KEY, DRAWS)
    np.testing.assert_allclose(again.cross_entropy.value, found.cross_entropy.value, rtol=1e-5)
    assert again.accuracy == found.accuracy
    assert again.by_gamma == found.by_gamma


def test_shares_are_those_of_numpy():
    """Ratios and their errors, with images that have more draws in a bin than others and one that has none."""
    rng = np.random.default_rng(1)
    count = rng.integers(0, 3, (30, GAMMA_BINS)).astype(float)
    count[:, 5] = 0
    right = rng.binomial(count.astype(int), 0.6).astype(float)
    uniform, clean = rng.uniform(0, 4, (30, 2)), rng.integers(0, 2, (30, 2)).astype(float)
    by_gamma = np.stack([count, right, rng.uniform(size=right.shape)], axis=2)
    result = to_accuracy(Sums(uniform, by_gamma, clean), 4, np.arange(GAMMA_BINS + 1.0), num_classes=3)
    np.testing.assert_allclose(result.accuracy.value, uniform[:, 0].mean() / 4)
    np.testing.assert_allclose(result.cross_entropy.stderr, uniform[:, 1].std(ddof=1) / 4 / np.sqrt(30))
    assert result.by_gamma[5] is None
    for k in (0, 9):
        share = result.by_gamma[k]
        assert share.value == pytest.approx(right[:, k].sum() / count[:, k].sum())
        # The bootstrap of the same ratio.
        chosen = rng.integers(0, 30, (20_000, 30))
        spread = np.std(right[chosen, k].sum(axis=1) / count[chosen, k].sum(axis=1))
        assert share.stderr == pytest.approx(spread, rel=0.15)
    record = result.to_dict()
    of_bin = result.by_gamma[9]
    assert record["accuracy_by_gamma"][9] == {"gamma": [9, 10], "value": of_bin.value, "stderr": of_bin.stderr}
    assert record["accuracy_by_gamma"][5]["value"] is None


def test_errors_are_between_groups_where_the_data_have_them(evaluator):
    """Copies of an image are one."""
    groups = np.arange(NUM) // 10
    source = Arrays({**SOURCE.arrays, "group": groups})
    result = evaluator({"network": {}}, source, KEY, 2)
    assert result.stderr_over == f"groups ({NUM // 10})"
