"""Which labels the images of a request have: in turn, at random or those of test images, and what is refused."""

import dataclasses

import conditional
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import InputError
from vdm.evaluation.conditions import Conditions, listed, random_labels

CLASSES = ["plane", "car", "cat", "3"]
MODEL = conditional.model(True)


def conditions(labels, model=MODEL, classes=CLASSES, seed=0):
    return Conditions(model, labels, classes, conditional.source, seed)


@pytest.mark.parametrize(
    ("labels", "expected", "rows"),
    [
        (None, [0, 1, 2, 3, 0, 1], CLASSES),
        ("all", [0, 1, 2, 3, 0, 1], CLASSES),
        ("cat,1", [2, 1, 2, 1, 2, 1], ["cat", "car"]),
        ("3", [3] * 6, ["3"]),
        ("0, cat", [0, 2] * 3, ["plane", "cat"]),
    ],
)
def test_labels_go_in_turn_whatever_the_rest_of_the_request(labels, expected, rows):
    found = conditions(labels)
    assert found(6)["label"].tolist() == expected
    assert found(2, first=3)["label"].tolist() == expected[3:5]
    assert found.rows == rows


def test_a_name_goes_before_a_number():
    assert listed("1,0", ["dog", "0", "cat"]).tolist() == [1, 1]


def test_random_labels_are_uniform_and_of_the_image_and_the_seed():
    whole = conditions("random", seed=5)(4000)["label"]
    np.testing.assert_array_equal(conditions("random", seed=5)(7, first=100)["label"], whole[100:107])
    assert np.any(whole[:50] != random_labels(6, 4, 50))
    counts = np.bincount(whole, minlength=4)
    # χ² of 3 degrees of freedom is above 16.3 once in a thousand.
    assert np.sum((counts - 1000) ** 2 / 1000) < 16.3
    assert conditions("random").rows == []


def test_those_of_test_images():
    found = conditions("test")(13)["label"]
    assert sorted(found) == sorted(conditional.labels(13))
    # A network with other conditions than labels has no other choice, and labels need not have names.
    other = dataclasses.replace(MODEL, condition={**MODEL.condition, "index": jax.ShapeDtypeStruct((), jnp.int32)})
    assert conditions(None, other, None).said == "test"
    assert conditions(None, conditional.model(False), None)(3) is None
    assert conditions(None, MODEL, None).said == "test"


def test_a_classifier_has_labels_of_its_own():
    found = Conditions(conditional.model(False), "3,0", CLASSES, conditional.source, 0, leads="label")
    assert found(3)["label"].tolist() == [3, 0, 3]
    with pytest.raises(InputError, match="labels=test: the network has no conditions, only a classifier has labels"):
        Conditions(conditional.model(False), "test", CLASSES, conditional.source, 0, leads="label")


@pytest.mark.parametrize(
    ("labels", "model", "classes", "words"),
    [
        ("dog", MODEL, CLASSES, "labels=dog: no class 'dog'; the classes are 0 plane, 1 car, 2 cat, 3$"),
        ("4", MODEL, CLASSES, "labels=4: no class '4'; the classes are"),
        ("-1", MODEL, CLASSES, "no class '-1'"),
        ("1,,2", MODEL, CLASSES, "no class ''"),
        ("", MODEL, CLASSES, "no class ''"),
        ("x", MODEL, [f"c{k}" for k in range(30)], r"19 c19, … \(30\)$"),
        ("all", MODEL, None, "labels=all: the data do not name their classes; must be test"),
        (
            "all",
            conditional.model(False),
            CLASSES,
            "labels=all: the network has no conditions; must be conditioned on labels",
        ),
        ("test", conditional.model(False), CLASSES, "labels=test: the network has no conditions"),
    ],
)
def test_what_is_no_label_is_one_line(labels, model, classes, words):
    with pytest.raises(InputError, match=words) as error:
        conditions(labels, model, classes)
    assert "\n" not in str(error.value)
