"""What a precision does to the bound: measured with the images, times and noise of the number beside it."""

import functools

import jax
import numpy as np
import pytest
import tiny

from vdm import bounds, parallel
from vdm.data import Arrays, selected
from vdm.evaluation import bound, planned
from vdm.evaluation.bound import Evaluation, Evaluator
from vdm.evaluation.rounding import to_rounding

NUM, DRAWS, SOME = 23, 3, 8
KEY = jax.random.key(5)


def source() -> Arrays:
    return Arrays({"image": np.asarray(tiny.images(NUM))})


@functools.cache
def variables():
    return tiny.variables(tiny.pixelwise())


@functools.cache
def evaluator(precision: str) -> Evaluator:
    return Evaluator(tiny.pixelwise().computed_in(precision), parallel.make_mesh(2), 8)


@pytest.fixture(autouse=True)
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "IMAGES", SOME)


def each(precision: str, max_images: int = 0) -> np.ndarray:
    """Bits/dim of the images one by one."""
    terms = evaluator(precision).estimates(variables(), source(), KEY, DRAWS, max_images=max_images).terms
    return bounds.bits_per_dim(terms.sum(axis=(0, 1)), 16)


@functools.cache
def evaluated(precision: str, max_images: int = 0) -> Evaluation:
    return evaluator(precision)(variables(), source(), KEY, DRAWS, max_images)


@pytest.mark.parametrize("max_images", [0, 12, 7])
def test_it_is_the_mean_difference_of_some_of_the_images(max_images: int) -> None:
    """Each with its own times and noise: of all images, of a sample that has those, and of one that has fewer."""
    result, num = evaluated("bfloat16", max_images), min(SOME, max_images or NUM)
    wanted = (each("bfloat16") - each("float32"))[selected(NUM, num)]
    assert result.rounding is not None
    assert (result.precision, result.rounding.num_images) == ("bfloat16", num)
    # float32 sums of batches of other sizes, of about 10 bits/dim.
    np.testing.assert_allclose(result.rounding.mean, wanted.mean(), atol=2e-6)
    np.testing.assert_allclose(result.rounding.stderr, wanted.std(ddof=1) / np.sqrt(num), rtol=0.05)
    assert np.abs(wanted).max() > 1e-4
    # The number itself is of all, in bfloat16.
    np.testing.assert_allclose(result.total, each("bfloat16", max_images).mean(), rtol=1e-6)
    record = result.to_dict()
    assert record["precision"] == "bfloat16"
    assert record["against_float32"] == {"mean": result.rounding.mean, "stderr": result.rounding.stderr,
                                         "num_images": num}  # fmt: skip
    assert f"bits/dim (bfloat16: {result.rounding})" in str(result)


def test_it_is_known_far_better_than_the_number() -> None:
    """As the noise is the same: that of other times and noise would be as large as the number's own."""
    result = evaluated("bfloat16")
    assert result.stderr is not None
    assert result.rounding is not None
    assert result.rounding.stderr is not None
    assert result.rounding.stderr < 0.05 * result.stderr


def test_tf32_is_float32_on_a_cpu_and_says_so() -> None:
    exact, same = evaluated("float32"), evaluated("tf32")
    assert (same.total, same.stderr, same.rounding) == (exact.total, exact.stderr, None)
    assert str(same) == f"{exact} (tf32, as float32 on this device)"
    assert (exact.accuracy, exact.to_dict()["precision"]) == ("float32", "float32")
    assert same.to_dict()["against_float32"] is None


def test_planned_draws_have_it_too_with_the_draws_of_the_plan() -> None:
    exact, rounded = (planned.evaluate_to(evaluator(p), variables(), source(), KEY, 0.5)[0] for p in PRECISIONS)
    assert rounded.rounding is not None
    # The plans are made from pilots of their own, and here the same; both are of all images but for the rounding.
    assert exact.num_draws == rounded.num_draws
    np.testing.assert_allclose(rounded.total - exact.total, rounded.rounding.mean, atol=5 * rounded.rounding.stderr)


PRECISIONS = ("float32", "bfloat16")


def test_progress_ends_where_it_says() -> None:
    seen: list[tuple[int, int]] = []
    evaluator("bfloat16")(variables(), source(), KEY, DRAWS, progress=lambda *at: seen.append(at))
    assert seen[-1] == (NUM + SOME, NUM + SOME)
    assert seen == sorted(set(seen))


def test_errors_of_groups_are_over_the_groups() -> None:
    """Three images of each of two groups, of which one is rounded up and one down."""
    exact, groups = np.zeros(6), np.array([0, 0, 0, 1, 1, 1])
    found = to_rounding(np.where(groups == 0, 1e-3, -1e-3), exact, groups)
    # √(2 · ((3·10⁻³)² + (3·10⁻³)²))/6
    assert found.stderr == pytest.approx(1e-3)
    assert (found.mean, found.num_images) == (0.0, 6)
