"""Class accuracy: a share, with the error of one."""

import numpy as np
import pytest

from vdm.evaluation.metrics import Reference
from vdm.evaluation.metrics.class_accuracy import ClassAccuracy, class_accuracy

RNG = np.random.default_rng(0)


def log_prob(guesses: np.ndarray) -> np.ndarray:
    """Of three classes: the guess is the likeliest, by little."""
    return (RNG.uniform(-9, -8, (len(guesses), 3)) + 1.5 * np.eye(3)[guesses]).astype(np.float32)


def test_accuracy_and_its_error_are_the_binomials():
    labels = RNG.integers(0, 3, 500)
    guesses = np.where(RNG.random(500) < 0.8, labels, (labels + 1) % 3)
    found = ClassAccuracy(Reference.of(log_prob(labels))).estimate(log_prob(guesses), labels)
    share = np.mean(guesses == labels)
    assert found.value == pytest.approx(100 * share)
    assert found.stderr == pytest.approx(100 * np.sqrt(share * (1 - share) / 499))
    assert not class_accuracy().lower_is_better


def test_real_images_come_to_that_of_the_split_that_the_classifier_has_not_seen():
    """Or, where there is no other, to that of themselves."""
    seen, others = np.array([0, 1, 2, 0]), np.array([0, 1, 2, 0])
    wrong = np.array([0, 0, 0, 0])

    def reference(**more: object) -> Reference:
        return Reference(4, 3, lambda limit: log_prob(seen), labels=lambda: seen, **more)

    both = reference(others=lambda: log_prob(others), other_labels=lambda: wrong)
    assert ClassAccuracy(both).noise_floor(9) == 50
    assert ClassAccuracy(reference()).noise_floor(9) == 100
    with pytest.raises(ValueError, match=r"^real images: they have no labels"):
        ClassAccuracy(Reference.of(log_prob(seen))).noise_floor(9)


def test_it_needs_labels_and_images():
    measure = ClassAccuracy(Reference.of(log_prob(np.zeros(3, int))))
    with pytest.raises(ValueError, match=r"^needs the labels of the images"):
        measure.estimate(log_prob(np.zeros(3, int)))
    with pytest.raises(ValueError, match=r"^images: 1 of them; must be 2 or more"):
        measure.estimate(log_prob(np.zeros(1, int)), np.zeros(1, int))
