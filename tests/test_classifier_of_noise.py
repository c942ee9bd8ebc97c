"""p(c|z_t, γ): normalised, Bayes' own cross-entropy with the exact posterior, and its config."""

import classifying
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classifying import IMAGES, gamma

from vdm import classifier as classifier_lib
from vdm.classifier import Classifier, ClassifierConfig, ClassifierNetworkConfig
from vdm.config import DataConfig, TrainingConfig, from_dict, to_dict, validate
from vdm.errors import InputError
from vdm.networks.classifier import residual
from vdm.settings import settings

KEY = jax.random.key(0)
NUM = 40_000


def batch(num: int = NUM) -> dict[str, jax.Array]:
    label = np.random.default_rng(0).integers(0, 2, num)
    return {"image": jnp.asarray(IMAGES[label]), "label": jnp.asarray(label, jnp.int32)}


@pytest.mark.parametrize("gamma_t", [-6.0, 0.0, np.inf])
def test_probabilities_sum_to_1(gamma_t):
    classifier = classifying.linear()
    z = jax.random.normal(KEY, (5, *classifying.SHAPE))
    log_prob = classifier.log_prob(classifier.init(KEY), z, gamma_t)
    assert (log_prob.shape, log_prob.dtype) == ((5, 2), jnp.float32)
    np.testing.assert_allclose(np.exp(log_prob).sum(axis=1), 1, rtol=1e-6)


def test_pure_noise_is_what_it_was_trained_with_of_most():
    classifier = classifying.linear()
    variables, z = classifier.init(KEY), jax.random.normal(KEY, (5, *classifying.SHAPE))
    at_infinity, at_most, at_0 = (classifier.log_prob(variables, z, g) for g in (jnp.inf, classifier.gamma_max, 0.0))
    np.testing.assert_array_equal(at_infinity, at_most)
    assert np.abs(at_0 - at_most).max() > 1e-3
    each = classifier.log_prob(variables, z, jnp.asarray([0.0, jnp.inf, 0.0, jnp.inf, 0.0]))
    np.testing.assert_allclose(each, jnp.where(jnp.arange(5)[:, None] % 2 == 0, at_0, at_most), rtol=1e-6)


def test_the_loss_of_the_exact_posterior_is_the_cross_entropy_of_bayes():
    """Over uniform times, within its error; and any other classifier's is above it."""
    exact, too_sure = (jax.jit(lambda b, c=c: c.loss({"network": {}}, KEY, b, gamma))(batch()) for c in (
        classifying.exact(), classifying.exact(sharpness=2.0)))  # fmt: skip
    assert exact.shape == (NUM,)
    error = np.std(exact) / np.sqrt(NUM)
    wanted = classifying.over_times(0)
    assert error < 0.01 * wanted
    assert abs(np.mean(exact) - wanted) < 4 * error
    difference = too_sure - exact
    assert np.mean(difference) > 4 * np.std(difference) / np.sqrt(NUM)


def test_the_loss_of_equal_logits_is_log_c():
    classifier = Classifier(residual(classes=3, channels=4, depth=1), (4, 4, 1), 17, classes=3)
    labelled = {"image": jnp.zeros((6, 4, 4, 1), jnp.uint8), "label": jnp.arange(6) % 3}
    losses = jax.jit(lambda key: classifier.loss(classifier.init(key), key, labelled, gamma))(KEY)
    np.testing.assert_allclose(losses, np.log(3), rtol=1e-6)


def test_the_times_of_a_batch_cover_all_noise_evenly():
    levels, eps = classifying.linear().draw(KEY, 100, gamma)
    t = (np.sort(levels) - classifying.GAMMA_0) / (classifying.GAMMA_1 - classifying.GAMMA_0)
    np.testing.assert_allclose(np.diff(t), 0.01, atol=1e-5)
    assert eps.shape == (100, *classifying.SHAPE)


def test_a_batch_without_labels_is_refused():
    classifier = classifying.linear()
    with pytest.raises(ValueError, match=r"^batch has image: must have 'label'"):
        classifier.loss(classifier.init(KEY), KEY, {"image": jnp.asarray(IMAGES)}, gamma)


def test_its_config_makes_it_and_reads_back():
    config = ClassifierConfig(
        data=DataConfig(shape=(8, 8, 1), levels=17, classes=10), network=ClassifierNetworkConfig(channels=8, depth=1)
    )
    classifier = classifier_lib.from_config(config)
    assert (classifier.shape, classifier.levels, classifier.classes) == ((8, 8, 1), 17, 10)
    assert (classifier.network.channels, classifier.network.depth, classifier.network.classes) == (8, 1, 10)
    assert from_dict(to_dict(config), kind=ClassifierConfig) == config
    assert classifier.computed_in("bfloat16").network.dtype == jnp.bfloat16
    for each in settings(ClassifierConfig()):
        assert each.doc.endswith("."), each.name
        assert each.problem() is None, each.name


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ClassifierConfig(network=ClassifierNetworkConfig(groups=3)), r"config\.network\.groups=3: must be a divisor"),
        (ClassifierConfig(network=ClassifierNetworkConfig(name="unet")), r"config\.network\.name='unet': must be one"),
        (ClassifierConfig(training=TrainingConfig(batch_size=8, accumulate=3)), r"config\.training\.accumulate=3: mu"),
        (ClassifierConfig(task="model"), r"config\.task='model': not one of classifier"),
    ],
)
def test_what_no_classifier_could_have_is_refused(config, words):
    with pytest.raises(InputError, match=f"^{words}"):
        validate(config)
    with pytest.raises(InputError, match=r"^config\.data: shape, levels and classes must be set"):
        classifier_lib.from_config(ClassifierConfig())
