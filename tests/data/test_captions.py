"""Captions of measured attributes: what is measured, how it is worded, that it can be read back, and held out."""

import itertools

import numpy as np
import pytest

from vdm.config import DataConfig
from vdm.data import examples, load
from vdm.data.captions import DESCRIPTIONS, digits, photos
from vdm.data.captions.sources import digits_captions, photos32_captions
from vdm.errors import InputError

GRAMMARS = {"digits": digits.GRAMMAR, "photos": photos.GRAMMAR}


@pytest.fixture(scope="module")
def captioned(data_dir):
    return digits_captions(data_dir)


@pytest.fixture(scope="module")
def every(captioned):
    return examples(captioned.train, range(len(captioned.train)))


def combinations(grammar) -> list[dict[str, str]]:
    """Every set of values that a caption can say, and "" of each attribute that need not be."""
    always = {"class"}
    values = [[*of, *([] if name in always else [""])] for name, of in grammar.phrases.items()]
    return [dict(zip(grammar.phrases, each, strict=True)) for each in itertools.product(*values)]


def bar(degrees: float, half_width: float = 0.8, shift: float = 0.0) -> np.ndarray:
    """A bar of 8×8 pixels that leans so far to the right, with soft edges."""
    y, x = np.mgrid[:8, :8] - 3.5
    distance = np.abs(x - shift + np.tan(np.radians(degrees)) * y)
    return np.rint(16 * np.clip(half_width + 0.5 - distance, 0, 1)).astype(np.uint8)[None, :, :, None]


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_the_first_caption_says_all_and_the_others_nothing_else(grammar):
    for asked in combinations(grammar):
        first, *others = grammar.captions(asked)
        assert grammar.attributes_of(first) == {name: value or None for name, value in asked.items()}
        for caption in others:
            said = grammar.attributes_of(caption)
            assert all(value in (None, asked[name]) for name, value in said.items()), caption
            assert grammar.unknown(caption) == []


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_each_phrase_means_its_value_also_among_others(grammar):
    for name, values in grammar.phrases.items():
        for value, phrases in values.items():
            for phrase in phrases:
                said = {key: each for key, each in grammar.attributes_of(f"Please: {phrase}!").items() if each}
                assert said == {name: value}


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_captions_are_short_enough_for_a_byte_each(grammar):
    longest = max((len(caption), caption) for asked in combinations(grammar) for caption in grammar.captions(asked))
    assert longest[0] <= 64, longest


def test_attributes_of_a_text_of_ones_own():
    assert digits.GRAMMAR.attributes_of("A Bold seven leaning right.") == {
        "class": "7", "weight": "bold", "slant": "right", "width": None, "place": None,
    }  # fmt: skip
    assert digits.GRAMMAR.unknown("a wonderful seven, shouting") == ["wonderful", "shouting"]
    with pytest.raises(ValueError, match=r"gives the class as both '7' and '8'"):
        digits.GRAMMAR.attributes_of("seven or eight")


@pytest.mark.parametrize("degrees", [-25, -10, 0, 10, 25])
def test_a_bar_has_its_slant(degrees):
    # Pixels of 17 levels and the picture's edge leave a degree or two.
    assert digits.numbers(bar(degrees, 0.6))["slant"][0] == pytest.approx(degrees, abs=2)
    turned = digits.numbers(bar(degrees)[:, :, ::-1])["slant"][0]
    assert turned == pytest.approx(-digits.numbers(bar(degrees))["slant"][0], abs=1e-9)


def test_more_ink_is_bolder_and_a_shift_is_another_place():
    thin, thick = (digits.numbers(bar(0, half)) for half in (0.5, 1.0))
    assert thick["ink"][0] == pytest.approx(2 * thin["ink"][0])
    moved = digits.numbers(bar(0, 0.5, 1.0))
    assert moved["place"][0] - thin["place"][0] == pytest.approx(1)
    words = digits.measured(np.concatenate([bar(0, 0.8), bar(0, 1.6)]), np.array([1, 1]))
    assert words["weight"].tolist() == ["light", "bold"]


def test_an_image_without_ink_is_nothing_in_particular():
    words = digits.measured(np.zeros((1, 8, 8, 1), np.uint8), np.array([3]))
    assert {name: values.tolist() for name, values in words.items()} == {
        "class": ["3"], "weight": ["light"], "slant": [""], "width": [""], "place": [""],
    }  # fmt: skip


def test_the_usual_is_the_median_of_the_training_images(every):
    found, labels = digits.numbers(every["image"]), every["label"]
    for name, medians in digits.USUAL.items():
        here = [np.median(found[name][labels == k]) for k in range(10)]
        np.testing.assert_allclose(medians, here, atol=0.006)


def test_every_value_is_of_many_images_of_each_class(every):
    """So that a group is no rare case, and a combination can be held out."""
    words = digits.measured(every["image"], every["label"])
    for name in ("weight", "slant"):
        for value in digits.RANGES[name]:
            counts = np.bincount(every["label"][words[name] == value], minlength=10)
            assert counts.min() >= 15, (name, value, counts)


@pytest.mark.parametrize(
    ("colour", "name", "brightness"),
    [
        ((200, 30, 30), "red", ""),
        ((90, 50, 10), "orange", "dark"),
        ((250, 220, 20), "yellow", "bright"),
        ((20, 90, 30), "green", "dark"),
        ((20, 40, 120), "blue", "dark"),
        ((160, 60, 200), "purple", ""),
        ((128, 128, 128), "grey", ""),
        ((0, 0, 0), "grey", "dark"),
        ((255, 255, 255), "grey", "bright"),
    ],
)
def test_colours_are_called_by_their_names(colour, name, brightness):
    words = photos.measured(np.full((1, 4, 4, 3), colour, np.uint8))
    assert [words[each][0] for each in ("colour", "brightness", "texture")] == [name, brightness, "smooth"]


def test_stripes_are_rough_whichever_way():
    stripes = np.zeros((2, 8, 8, 3), np.uint8)
    stripes[0, ::2] = stripes[1, :, ::2] = 255
    assert photos.measured(stripes)["texture"].tolist() == ["rough", "rough"]
    assert np.ptp(photos.numbers(stripes)["texture"]) == 0


@pytest.mark.parametrize("source", [digits_captions, photos32_captions])
def test_captions_say_what_is_measured_on_their_images(source, data_dir):
    dataset = source(data_dir)
    describe = DESCRIPTIONS[dataset.info.name]
    for split in (dataset.train, dataset.test):
        chosen = range(0, len(split), 37)
        batch = examples(split, chosen)
        words = describe.measured(batch["image"], batch.get("label"))
        for row, index in enumerate(chosen):
            measured = {name: str(values[row]) for name, values in words.items()}
            assert split[index]["text"] == describe.grammar.captions(measured)
        firsts = [split[index]["text"][0] for index in chosen]
        obeyed = describe.obeyed(firsts, batch["image"], batch.get("label"))
        assert all(np.nanmin(values) == 1 for values in obeyed.values())


def test_images_are_those_of_the_data_without_captions(digits, captioned):
    for split in ("train", "test"):
        plain, with_text = getattr(digits, split), getattr(captioned, split)
        assert len(plain) == len(with_text)
        np.testing.assert_array_equal(with_text[5]["image"], plain[5]["image"])
        assert with_text[5]["label"] == plain[5]["label"]


def test_obeyed_is_of_what_is_asked_alone(every):
    sevens = every["image"][every["label"] == 7]
    obeyed = DESCRIPTIONS["digits_captions"].obeyed("a seven leaning left", sevens, np.full(len(sevens), 7))
    assert np.isnan(obeyed["weight"]).all()
    assert obeyed["class"].mean() == 1
    assert 0.1 < obeyed["slant"].mean() < 0.4


def test_held_out_combinations_are_not_trained_on_and_stay_in_the_test(captioned, data_dir):
    without = digits_captions(data_dir, held_out=("seven leaning left", "a bold three"))
    found = {}
    for name, split in (("all", captioned.train), ("train", without.train), ("test", without.test)):
        said = [digits.GRAMMAR.attributes_of(split[index]["text"][0]) for index in range(len(split))]
        pairs = [((each["class"], each["slant"]), (each["class"], each["weight"])) for each in said]
        found[name] = [sum(pair[0] == ("7", "left") for pair in pairs), sum(pair[1] == ("3", "bold") for pair in pairs)]
    assert found["train"] == [0, 0]
    assert min(found["all"]) > 0
    assert min(found["test"]) > 0
    assert len(without.test) == len(captioned.test)
    assert len(captioned.train) - len(without.train) == sum(found["all"])
    assert without.info.notes == (
        f"held out of training: seven leaning left, {found['all'][0]} of 1497 images",
        f"held out of training: a bold three, {found['all'][1]} of 1497 images",
    )
    assert without.info.name == "digits_captions(held_out=('seven leaning left', 'a bold three'))"


@pytest.mark.parametrize(
    ("held_out", "problem"),
    [
        (
            "('seven jumping',)",
            "held_out: 'seven jumping': unknown words 'jumping'; known are, for example",
        ),
        ("('a digit',)", "held_out: 'a digit': says nothing"),
        ("('six seven',)", "gives the class as both '6' and '7': must be one"),
        ("('narrow zero, left of centre',)", "matches no training image"),
        ("'seven'", "must be a tuple, each a string"),
    ],
)
def test_what_cannot_be_held_out_is_refused(held_out, problem, data_dir):
    with pytest.raises(InputError) as caught:
        load(DataConfig(name=f"digits_captions(held_out={held_out})", data_dir=data_dir))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_cannot_be_held_out(data_dir):
    with pytest.raises(ValueError, match="no training image is left"):
        digits_captions(data_dir, held_out=digits.NAMES)
