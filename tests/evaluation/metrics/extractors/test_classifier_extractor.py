"""The classifier's features: known ones, by which images are compared as the formulas say, and never with others'."""

from dataclasses import replace

import classifying
import jax
import judging
import numpy as np
import pytest
from scipy import linalg

from vdm import parallel, parts
from vdm.data import Arrays
from vdm.evaluation.metrics.extractors.classifier import Opened
from vdm.evaluation.metrics.features import Extraction
from vdm.evaluation.metrics.scoring import Real, Scorer

SHAPE, LEVELS = (8, 8, 1), 17
RNG = np.random.default_rng(0)
REAL, OTHERS = (RNG.integers(0, LEVELS, (num, *SHAPE)).astype(np.uint8) for num in (50, 20))
SAMPLES = (RNG.integers(0, LEVELS, (40, *SHAPE)) // 2).astype(np.uint8)
LABELS = RNG.integers(0, 10, 40)
JUDGE = judging.opened()


def extractor(judge: Opened = JUDGE, **context):
    context = {"shape": SHAPE, "levels": LEVELS, "classifier": lambda: judge} | context
    return parts.make("extractor", "classifier", **context)


def scorer(names: list[str], num_devices: int = 8, judge: Opened = JUDGE) -> Scorer:
    real = Real(Arrays({"image": REAL}), Arrays({"image": OTHERS, "label": np.arange(20) % 10}), "real")
    mesh = parallel.make_mesh(num_devices)
    return Scorer(names, real, LEVELS, SHAPE, mesh, classifier=lambda: judge)


def test_features_are_what_the_last_linear_map_sees():
    made = extractor()
    assert made.outputs == {"features": 3, "log_prob": 10}
    found = Extraction(made, list(made.outputs), parallel.make_mesh())(Arrays({"image": SAMPLES}))
    np.testing.assert_allclose(found["features"], judging.features(JUDGE, SAMPLES), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.exp(found["log_prob"]).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found["log_prob"].argmax(axis=1), judging.guesses(JUDGE, SAMPLES))


def test_fd_classifier_is_the_frechet_distance_of_them():
    a, b = (judging.features(JUDGE, images) for images in (SAMPLES, REAL))
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    distance = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    found = scorer(["fd_classifier", "class_accuracy"])(SAMPLES, LABELS)
    alone = scorer(["fd_classifier"], num_devices=1)(SAMPLES)
    assert alone["fd_classifier"].value == pytest.approx(found["fd_classifier"].value, rel=1e-5)
    assert found["fd_classifier"].value == pytest.approx(distance, rel=1e-4)
    assert found["class_accuracy"].value == pytest.approx(100 * np.mean(judging.guesses(JUDGE, SAMPLES) == LABELS))


def test_real_images_come_to_the_accuracy_of_the_test_split():
    right = judging.guesses(JUDGE, OTHERS) == np.arange(20) % 10
    assert scorer(["class_accuracy"]).floors(40)["class_accuracy"] == pytest.approx(100 * np.mean(right))


def test_another_classifier_is_another_extractor():
    """By its weights, by its data, and by how clean an image it is shown."""
    others = (
        judging.opened(seed=1),
        JUDGE._replace(data="images 2.0.0"),
        JUDGE._replace(classifier=replace(JUDGE.classifier, gamma_min=-5.0)),
    )
    assert len({extractor(each).identity for each in (JUDGE, *others)}) == 4


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"shape": (4, 4, 1)}, r"images are \(4, 4, 1\) with 17 levels; classifier takes \(8, 8, 1\) with 17"),
        ({"levels": 256}, r"images are \(8, 8, 1\) with 256 levels; classifier takes \(8, 8, 1\) with 17"),
    ],
)
def test_other_images_are_refused(context, words):
    with pytest.raises(ValueError, match=words):
        extractor(**context)


def test_a_network_without_such_a_map_is_refused():
    exact = classifying.exact()
    judge = Opened(exact, exact.init(jax.random.key(0)), "two images", "sha256:0")
    with pytest.raises(ValueError, match=r"the classifier's network has no features: its logits must be "):
        extractor(judge, shape=exact.shape)


def test_class_accuracy_without_labels_is_refused():
    with pytest.raises(ValueError, match=r"^class_accuracy: needs the labels of the images, and there are none"):
        scorer(["class_accuracy"])(SAMPLES)
