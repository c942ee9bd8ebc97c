"""What a condition becomes: a vector of its class, a linear map of its features, or "no condition" if dropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.networks.embeddings import ConditionEmbedding

LABELS = jnp.array([2, 0, 2])


def embedded(condition, classes=4):
    module = ConditionEmbedding(size=6, classes=classes)
    variables = module.init(jax.random.key(0), condition)
    return variables["params"], lambda condition: module.apply(variables, condition)


def test_a_label_is_its_row_and_features_are_a_linear_map():
    features = jax.random.normal(jax.random.key(1), (3, 5))
    params, apply = embedded({"label": LABELS, "features": features})
    rows, kernel = params["label"]["embedding"], params["features"]["kernel"]
    assert rows.shape == (4, 6)
    expected = np.asarray(rows)[LABELS] + np.asarray(features) @ np.asarray(kernel)
    np.testing.assert_allclose(apply({"label": LABELS, "features": features}), expected, rtol=1e-5, atol=1e-6)


def test_what_is_dropped_is_one_learned_vector_whatever_the_label():
    dropped = jnp.array([True, False, True])
    params, apply = embedded({"label": LABELS, "dropped": dropped})
    result = apply({"label": LABELS, "dropped": dropped})
    np.testing.assert_array_equal(result[0], params["none"])
    np.testing.assert_array_equal(result[2], params["none"])
    np.testing.assert_array_equal(result[1], params["label"]["embedding"][0])
    other = apply({"label": LABELS.at[0].set(1), "dropped": dropped})
    np.testing.assert_array_equal(result, other)
    # Nothing said is nothing dropped.
    np.testing.assert_array_equal(apply({"label": LABELS}), apply({"label": LABELS, "dropped": jnp.zeros(3, bool)}))


def test_without_dropping_there_is_no_vector_for_it():
    assert set(embedded({"label": LABELS})[0]) == {"label"}


def test_a_label_beyond_the_classes_is_not_another_one():
    _, apply = embedded({"label": LABELS})
    assert np.isnan(apply({"label": jnp.array([0, 4, 1])})[1]).all()


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"label": jnp.zeros((3, 1), jnp.int32)}, r"condition 'label' is int32 \(3, 1\)"),
        ({"tokens": jnp.zeros((3, 7), jnp.int32)}, r"condition 'tokens' is int32 \(3, 7\): this network takes 'label'"),
        ({"height": jnp.zeros(3)}, r"condition 'height' is float32 \(3,\)"),
    ],
)
def test_others_are_one_line(condition, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        embedded(condition)


def test_labels_need_their_number():
    with pytest.raises(ValueError, match=r"^classes=None: must be the number of labels"):
        embedded({"label": LABELS}, classes=None)
