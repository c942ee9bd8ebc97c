"""The bound given a label against −log p(x|c), and what is lost without it, image by image on the same noise."""

import functools

import jax
import numpy as np
import pytest
from overlapping import SHARES, draw, exact, model, source

from vdm import parallel
from vdm.evaluation.bound import Evaluation, Evaluator
from vdm.evaluation.conditional import Dropped, difference
from vdm.evaluation.planned import evaluate_by, evaluate_to

KEY, NUM, DIMS = jax.random.key(5), 96, 16
GROUPS = np.arange(NUM) // 8


@functools.cache
def evaluator(ignores: bool = False) -> Evaluator:
    return Evaluator(model(ignores), parallel.make_mesh(8), 32)


@functools.cache
def measured(dropped: bool, draws: int = 512, ignores: bool = False) -> Evaluation:
    images = source(NUM, group=GROUPS)
    which = evaluator(ignores)
    return which(exact(which.model), Dropped(images) if dropped else images, KEY, draws)


def nats(result: Evaluation) -> np.ndarray:
    return result.by_image * DIMS * np.log(2)


def assert_equal(values: np.ndarray, right: np.ndarray) -> float:
    """On average and image by image: errors have mean 0, and slope 0 against what is right. The slope's error."""
    errors, centred = values - right, right - right.mean()
    assert abs(errors.mean()) < 4 * errors.std(ddof=1) / np.sqrt(NUM) + 1e-3
    stderr = errors.std(ddof=1) / np.linalg.norm(centred)
    assert abs(errors @ centred / (centred @ centred)) < 4 * stderr
    return float(stderr)


@pytest.mark.parametrize("dropped", [False, True])
def test_the_bound_is_minus_log_p(dropped: bool) -> None:
    """10⁻³ is what is left at γ₀ and γ₁."""
    classes, patterns = draw(NUM)
    right = -np.log(SHARES.mean(axis=0)[patterns] if dropped else SHARES[classes, patterns])
    stderr = assert_equal(nats(measured(dropped)), right)
    # Without the label, the patterns are about as frequent.
    assert dropped or stderr < 0.15


def test_the_difference_is_what_the_label_is_worth() -> None:
    classes, patterns = draw(NUM)
    worth = np.log(SHARES[classes, patterns] / SHARES.mean(axis=0)[patterns])
    assert assert_equal(nats(measured(True)) - nats(measured(False)), worth) < 0.15


def test_its_error_is_that_of_a_direct_computation_over_groups() -> None:
    found = difference(measured(True), measured(False))
    both = [measured(dropped).by_image for dropped in (True, False)]
    sums = np.array([(both[0] - both[1])[group == GROUPS].sum() for group in np.unique(GROUPS)])
    assert found.mean == pytest.approx(sums.sum() / NUM)
    # Groups of one size: the standard error of the mean of their means.
    assert found.stderr == pytest.approx((sums / 8).std(ddof=1) / np.sqrt(len(sums)))


def test_the_same_noise_leaves_nothing_of_a_network_that_ignores_labels() -> None:
    pair = [measured(dropped, 16, ignores=True) for dropped in (True, False)]
    np.testing.assert_array_equal(*(each.by_image for each in pair))
    assert difference(*pair).mean == difference(*pair).stderr == 0


def test_planned_draws_are_the_same_for_both() -> None:
    which, variables = evaluator(True), exact(model(True))
    given, plan = evaluate_to(which, variables, source(NUM), KEY, 0.02)
    dropped = evaluate_by(plan, which, variables, Dropped(source(NUM)), KEY)
    np.testing.assert_array_equal(given.by_image, dropped.by_image)


def test_other_images_do_not_compare() -> None:
    fewer = evaluator()(exact(model()), source(NUM), KEY, 2, max_images=32)
    with pytest.raises(ValueError, match=r"^second has 32 images: must have the 96 of first"):
        difference(measured(False), fewer)


def test_a_dropped_source_is_the_source_with_one_entry_more() -> None:
    images = source(5)
    assert len(Dropped(images)) == 5
    assert Dropped(images)[3]["label"] == images[3]["label"]
