"""Which captions the images of a request have: given ones in turn, or those of test images, and what is refused."""

import dataclasses
from typing import Any

import classes_by_caption
import conditional
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classes_by_caption import LENGTH, TEXT

from vdm.config import SamplingConfig
from vdm.data import in_memory
from vdm.data.dataset import Source
from vdm.data.selection import order
from vdm.data.texts import Captioned, Text, fit
from vdm.errors import InputError
from vdm.evaluation import texts
from vdm.evaluation.conditions import Conditions, requested

OF_TEST = ["a cat", "c hen", "b dog", "a", "b b", "c c c"]
MODEL = classes_by_caption.model()


class Images:
    """Test images with captions; of the last there are two."""

    def __len__(self) -> int:
        return len(OF_TEST)

    def __getitem__(self, index: int) -> dict[str, Any]:
        caption = OF_TEST[index]
        return {"image": np.zeros(MODEL.shape, np.uint8), "text": (caption, "b other") if index == 5 else caption}


def of_test() -> Source:
    return Captioned(Images(), TEXT)


def never() -> Source:
    raise AssertionError("test images are not needed")


def conditions(
    captions: Any = (), labels: str | None = None, model: Any = MODEL, text: Text | None = TEXT
) -> Conditions:
    return Conditions(model, labels, ["x", "y"], never if captions else of_test, 0, captions=captions, text=text)


def test_captions_go_in_turn_without_the_data() -> None:
    found = conditions(["a cat", "b dog", "c hen"])
    every = found(7)["text"]
    np.testing.assert_array_equal(every, TEXT([["a cat", "b dog", "c hen"][k % 3] for k in range(7)]))
    np.testing.assert_array_equal(found(3, first=4)["text"], every[4:])
    assert found.rows == ["a cat", "b dog", "c hen"]
    assert found.names(4) == ["a cat", "b dog", "c hen", "a cat"]
    assert found.said is None
    many = conditions([f"a {k}" for k in range(17)])
    assert many.rows == []
    assert many.names(18)[16:] == ["a 16", "a 0"]


def test_without_captions_they_are_those_of_test_images() -> None:
    found = conditions()
    which = order(len(OF_TEST))[np.arange(8) % len(OF_TEST)]
    np.testing.assert_array_equal(found(8)["text"], TEXT([OF_TEST[k] for k in which]))
    assert found.names(8) == [OF_TEST[k] for k in which]
    assert (found.rows, found.said) == ([], "test")
    np.testing.assert_array_equal(conditions(labels="test")(8)["text"], found(8)["text"])


def test_captions_and_labels() -> None:
    both = dataclasses.replace(MODEL, condition={**MODEL.condition, "label": jax.ShapeDtypeStruct((), jnp.int32)})
    found = conditions(["a cat", "b"], "y", both)(3)
    assert found["label"].tolist() == [1, 1, 1]
    np.testing.assert_array_equal(found["text"], TEXT(["a cat", "b", "a cat"]))
    for labels in (None, "test"):
        with pytest.raises(
            InputError, match=r"conditioned on 'text', 'label'; must go with sampling.labels, other than"
        ):
            conditions(["a"], labels, both)
    with pytest.raises(
        InputError, match=r"labels=x: the network is conditioned on 'text', 'label'; must be conditioned"
    ):
        conditions((), "x", both)


@pytest.mark.parametrize(
    ("captions", "labels", "model", "text", "says"),
    [
        (["a"], None, conditional.model(True), TEXT, "text: the network is conditioned on 'label'; must be .* on text"),
        (["a"], None, conditional.model(False), TEXT, "text: the network has no conditions; must be .* on text"),
        (["a"], None, MODEL, None, "text: nothing says how the captions of the training images were encoded"),
        (["a", " "], None, MODEL, TEXT, "text: a caption is empty; must have words"),
        (["a cat on a"], None, MODEL, TEXT, r"text: the caption 'a cat on a' is longer than .*bytes\(length=8\)"),
        ((), "x", MODEL, TEXT, "labels=x: the network is conditioned on 'text'; must be conditioned on labels"),
    ],
)
def test_what_is_no_caption_is_one_line(captions: Any, labels: Any, model: Any, text: Any, says: str) -> None:
    with pytest.raises(InputError, match=f"^sampling.{says}") as error:
        conditions(captions, labels, model, text)
    assert "\n" not in str(error.value)


def test_what_a_guidance_leads_to_must_be_given() -> None:
    plain = conditional.model(False)
    found = Conditions(plain, None, None, never, 0, "text", ["a cat"], TEXT)
    np.testing.assert_array_equal(found(2)["text"], TEXT(["a cat"] * 2))
    with pytest.raises(
        InputError, match=r"^sampling.text: the network has no conditions, the guidance steers toward text: "
    ):
        Conditions(plain, None, None, never, 0, "text", (), TEXT)


def test_settings_make_them() -> None:
    sampling = SamplingConfig(text="a cat\n\n  b dog \n")
    found = requested(MODEL, sampling, 0, None, never, TEXT)
    assert found.captions == ("a cat", "b dog")
    np.testing.assert_array_equal(found(2)["text"], TEXT(["a cat", "b dog"]))


def test_what_is_as_long_as_there_is_room_for_is_not_cut() -> None:
    fits = "a" * LENGTH
    assert texts.encode(TEXT, [fits]).shape == (1, LENGTH)
    with pytest.raises(InputError, match="is longer than"):
        texts.encode(TEXT, [fits + "a"])
    assert texts.encode(fit("bytes(length=1)", ["a"]), ["a"]).tolist() == [[98]]


def test_unknown_words_are_named_once() -> None:
    assert texts.unknown_words(TEXT, ["a Fat cat", "fat hen, thin"]) == ["fat", "thin"]
    assert texts.unknown_words(None, ["a fat cat"]) == []


def test_captions_of_a_data_set_are_found_through_its_checks() -> None:
    arrays = {"image": np.zeros((6, *MODEL.shape), np.uint8)}
    assert texts.captions_of_images(in_memory(arrays, arrays, levels=17).test, np.arange(2)) == []
