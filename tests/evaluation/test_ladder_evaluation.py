"""A ladder network's evaluation: sums as numpy has them, and the same whatever the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm import keys, parallel
from vdm.data import Arrays
from vdm.evaluation.ladder import LadderEvaluator, Sums, to_evaluation
from vdm.predecessors.ladder import ladder

KEY = jax.random.key(0)
SHAPE, NUM = (2, 3, 1), 70
MODEL = ladder(shape=SHAPE, levels=17, classes=3, layers=(5,), labelled=1.0, costs=(2.0, 1.0, 0.5), weight=3.0)
TRAINING = Arrays({"image": np.asarray(tiny.images(50, SHAPE, seed=1))})
SOURCE = Arrays({"image": np.asarray(tiny.images(NUM, SHAPE)), "label": np.arange(NUM) % 3})


@pytest.fixture(scope="module")
def variables():
    return tiny.perturbed(MODEL.init(KEY), scale=0.5)


@pytest.fixture(scope="module")
def evaluator():
    return LadderEvaluator(MODEL, parallel.make_mesh(), 32, TRAINING)


@pytest.fixture(scope="module")
def found(evaluator, variables):
    return evaluator(variables, SOURCE, KEY, 2)


def test_it_is_the_mean_over_images_of_their_costs_and_answers(evaluator, found, variables):
    statistics = evaluator.calibrate(variables, KEY)
    image, label = jnp.asarray(SOURCE.arrays["image"]), jnp.asarray(SOURCE.arrays["label"], jnp.int32)
    own = keys.image_keys(KEY, NUM)
    run = jax.jit(MODEL)
    passes = [run(variables, image, MODEL.draw_each(keys.folded(own, d)), statistics) for d in range(2)]
    for t, share in enumerate(found.costs):
        cost = np.mean([each.costs[t] for each in passes], axis=0)
        assert share.value == pytest.approx(cost.mean(), rel=1e-5)
        assert share.stderr == pytest.approx(cost.std(ddof=1) / np.sqrt(NUM), rel=1e-4)
    log_prob = [np.asarray(jax.nn.log_softmax(each.noisy_top)) for each in passes]
    entropy = -np.mean([each[np.arange(NUM), label] for each in log_prob])
    assert found.cross_entropy.value == pytest.approx(entropy, rel=1e-5)
    answers = np.argmax(MODEL.log_prob(variables, statistics, image), axis=1)
    assert found.accuracy.value == pytest.approx(np.mean(answers == label))
    costs = [share.value for share in found.costs]
    assert found.total == pytest.approx(2 * costs[0] + costs[1] + 0.5 * costs[2] + 3 * entropy, rel=1e-5)


def test_it_does_not_depend_on_the_batch(found, variables):
    """On one device here, on eight there."""
    alone = LadderEvaluator(MODEL, parallel.make_mesh(1), 9, TRAINING)(variables, SOURCE, KEY, 2)
    for one, other in zip(alone.costs, found.costs, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-5)
    assert alone.accuracy == found.accuracy


def test_statistics_are_those_of_the_training_images(evaluator, found, variables):
    statistics = evaluator.calibrate(variables, KEY)
    kernel = np.asarray(variables["network"]["encoder"]["weights_1"]["kernel"], np.float64)
    x = (2 * np.asarray(TRAINING.arrays["image"], np.float64).reshape(50, -1) + 1) / 17 - 1
    np.testing.assert_allclose(statistics.clean[0].mean[0], (x @ kernel).mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics.clean[0].var[0], (x @ kernel).var(axis=0), rtol=1e-4)


@pytest.mark.parametrize("labelled", [0.0, 0.5])
def test_a_record_has_what_there_is(labelled):
    model = ladder(shape=SHAPE, levels=17, classes=2, layers=(5,), labelled=labelled)
    layers = model.num_layers + 1
    sums = Sums(np.arange(4.0 * layers).reshape(4, layers), np.arange(4.0), np.array([1.0, 0, 1, 1]))
    result = to_evaluation(model, sums, num_draws=2, groups=np.array([0, 0, 1, 1]))
    record = result.to_dict()
    assert [cost["value"] for cost in record["costs"]] == pytest.approx(sums.costs.mean(axis=0) / 2)
    assert record["total"] == result.total
    assert record["stderr_over"] == "groups (2)"
    if labelled:
        assert (record["accuracy"]["value"], record["cross_entropy_nats"]["value"]) == (0.75, 0.75)
        assert "accuracy 0.7500" in str(result)
    else:
        assert record["accuracy"] is None
        assert "accuracy" not in str(result)


def test_images_without_labels_will_do_where_none_count(variables):
    model = ladder(shape=SHAPE, levels=17, layers=(5,))
    result = LadderEvaluator(model, parallel.make_mesh(1), 32, TRAINING)(model.init(KEY), TRAINING, KEY, 1)
    assert result.accuracy is None
    assert result.num_images == 50
