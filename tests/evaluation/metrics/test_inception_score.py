"""The Inception Score: one-hot and uniform predictions, each image left out, its standard error."""

import numpy as np
import pytest

from vdm import parts
from vdm.evaluation.metrics import Reference
from vdm.evaluation.metrics.inception_score import InceptionScore, score


def one_hot(num: int, classes: int) -> np.ndarray:
    """Sure of each class as often."""
    return (1000.0 * np.eye(classes)[np.arange(num) % classes]).astype(np.float32)


def test_sure_and_varied_predictions_score_the_number_of_classes() -> None:
    # Of splits at random, classes are only about as often: of one split, exactly.
    assert score(one_hot(70, 7), splits=1).value == pytest.approx(7, rel=1e-12)
    assert score(one_hot(7000, 7), splits=10).value == pytest.approx(7, rel=0.02)


def test_predictions_that_are_all_the_same_score_1() -> None:
    uniform = score(np.zeros((40, 5), np.float32), splits=4)
    assert uniform.value == pytest.approx(1, rel=1e-12)
    assert uniform.stderr < 1e-12
    assert score(np.tile(one_hot(1, 5), (40, 1)), splits=4).value == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("sure", [False, True])
def test_each_image_is_left_out_exactly(sure: bool) -> None:
    logits = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32) * 2
    logits = one_hot(12, 4) if sure else logits
    found = score(logits, splits=1)
    p = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)

    def directly(p: np.ndarray) -> float:
        ratio = np.log(np.where(p > 0, p / p.mean(axis=0), 1))
        return float(np.exp(np.mean(np.sum(p * ratio, axis=1))))

    np.testing.assert_allclose(found.value, directly(p), rtol=1e-12)
    np.testing.assert_allclose(found.without, [directly(np.delete(p, k, axis=0)) for k in range(12)], rtol=1e-12)


def test_the_standard_error_is_that_of_replicates() -> None:
    rng = np.random.default_rng(0)
    repeats = 200
    estimates = [score(rng.normal(0, 2, size=(200, 5)).astype(np.float32), splits=4) for _ in range(repeats)]
    spread = np.std([e.value for e in estimates], ddof=1)
    stated = np.sqrt(np.mean([e.stderr**2 for e in estimates]))
    assert abs(stated / spread - 1) < 3 / np.sqrt(2 * (repeats - 1)) + 0.05


def test_of_fewer_images_it_is_lower() -> None:
    """Which is why a caution says so."""
    logits = np.random.default_rng(0).normal(0, 2, size=(4000, 50)).astype(np.float32)
    assert score(logits[:400], 10).value < score(logits, 10).value


def test_it_is_a_score_that_real_images_have_too() -> None:
    metric = parts.make("metric", "inception_score(splits=2)")
    assert not metric.lower_is_better
    real = one_hot(40, 4)
    measure = metric.prepare(Reference.of(real))
    assert isinstance(measure, InceptionScore)
    assert measure.noise_floor(1000) == score(real, 2).value
    assert measure.cautions(10_000) == ()
    assert measure.cautions(9998)[0].startswith("splits of 4999 images; 5000 are usual")
    with pytest.raises(ValueError, match="images: 3 of them; must be 4 or more, 2 for each of 2 splits"):
        measure.estimate(real[:3])
    with pytest.raises(ValueError, match="splits=0: must be 1 or more"):
        parts.make("metric", "inception_score(splits=0)")


def test_log_probabilities_of_any_classifier_are_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    logs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    metric = parts.make("metric", "classifier_score(splits=2)")
    assert (metric.extractor, metric.output) == ("classifier", "log_prob")
    measure = metric.prepare(Reference.of(logs))
    assert measure.estimate(logs).value == pytest.approx(score(logits, 2).value, rel=1e-6)
