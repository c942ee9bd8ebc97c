"""Diversity of labelled samples, against its definition image by image."""

import numpy as np
import pytest

from vdm.evaluation.class_quality import diversity

RNG = np.random.default_rng(0)
LABELS = np.array([0, 0, 1, 1, 1, 2, 1, 0, 3, 3])
IMAGES = RNG.integers(0, 17, (10, 3, 2, 1)).astype(np.uint8)
REAL = RNG.integers(0, 17, (40, 3, 2, 1)).astype(np.uint8)
REAL_LABELS = np.arange(40) % 5


def definition(images, labels, classes):
    """Mean squared distance of pairs is twice the variance."""
    total = 0.0
    for c in classes:
        x = images[labels == c].reshape(-1, 6).astype(float)
        pairs = [np.sum((a - b) ** 2) for i, a in enumerate(x) for b in x[i + 1 :]]
        total += np.mean(pairs) / 2
    return total


def test_diversity_is_that_of_pairs_in_units_of_real_ones():
    """Class 2 has one image: it says nothing, and nor does class 3 without one of its two."""
    found = diversity(IMAGES, LABELS, REAL, REAL_LABELS)
    of_real = definition(REAL, REAL_LABELS, [0, 1, 3])
    assert found.value == pytest.approx(definition(IMAGES, LABELS, [0, 1, 3]) / of_real)
    for k in (0, 3, 5):
        rest = np.delete(np.arange(10), k)
        assert found.without[k] == pytest.approx(definition(IMAGES[rest], LABELS[rest], [0, 1, 3]) / of_real)
    others = definition(IMAGES, LABELS, [0, 1]) / definition(REAL, REAL_LABELS, [0, 1])
    np.testing.assert_allclose(found.without[8:], others)
    np.testing.assert_allclose(found.without[5], found.value)
    # Of one class with two images nothing would be left.
    alone = diversity(IMAGES[8:], LABELS[8:], REAL, REAL_LABELS)
    np.testing.assert_allclose(alone.without, alone.value)


@pytest.mark.parametrize(("of_class", "most"), [(2, 1.8), (3, 2.2), (20, 1.3)])
def test_the_error_of_diversity_is_that_of_other_samples(of_class, most):
    """Of few images a class it is rather too large: without one of two the whole class is away."""
    labels = np.arange(60 * of_class) % 60
    real, real_labels = RNG.integers(0, 17, (600, 3, 2, 1)).astype(np.uint8), np.arange(600) % 60
    found = [
        diversity(RNG.integers(0, 17, (len(labels), 3, 2, 1)).astype(np.uint8), labels, real, real_labels)
        for _ in range(100)
    ]
    spread = np.std([each.value for each in found], ddof=1)
    assert 0.75 < np.mean([each.stderr for each in found]) / spread < most


def test_copies_have_none_and_data_have_one():
    copies = np.repeat(IMAGES[:3], 4, axis=0)
    assert diversity(copies, np.repeat([0, 1, 2], 4), REAL, REAL_LABELS).value == 0
    many = RNG.integers(0, 17, (4000, 3, 2, 1)).astype(np.uint8)
    found = diversity(many[:2000], np.arange(2000) % 4, many[2000:], np.arange(2000) % 4)
    # The real ones have an error too, of the same size.
    assert abs(found.value - 1) < 4 * np.sqrt(2) * found.stderr


def test_nothing_that_differs_is_refused():
    with pytest.raises(ValueError, match="labels: 0 classes with images that differ; must be 1 or more"):
        diversity(IMAGES, np.arange(10), REAL, REAL_LABELS)
