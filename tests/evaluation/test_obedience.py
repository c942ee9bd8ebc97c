"""Whether samples are as asked: against measurements of real images by hand."""

import judging
import numpy as np
import pytest

from vdm.data import examples
from vdm.data.captions import DESCRIPTIONS
from vdm.data.prepared import load_builtin
from vdm.evaluation.obedience import ALL, classes_of, everything, obedience, share

DIGITS = DESCRIPTIONS["digits_captions"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return examples(load_builtin("digits", str(tmp_path_factory.mktemp("data"))).test, range(100))


def test_real_images_are_as_their_own_captions_say(batch):
    captions = [several[0] for several in DIGITS.captions(batch["image"], batch["label"])]
    hits = DIGITS.obeyed(captions, batch["image"], batch["label"])
    assert {name for name, each in hits.items() if not np.isnan(each).all()} >= {"class", "weight", "slant"}
    assert all(np.nanmin(each) == 1 for each in hits.values() if not np.isnan(each).all())


def test_the_class_is_what_a_classifier_takes_it_for(batch):
    judge = judging.opened()
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    asked = [f"a {names[label]}" for label in batch["label"]]
    guesses = judging.guesses(judge, batch["image"])
    assert classes_of(judge, batch["image"]).tolist() == guesses.tolist()
    found = obedience(DIGITS, asked, batch["image"], judge)
    assert list(found) == ["class", ALL]
    assert found["class"].value == pytest.approx(100 * np.mean(guesses == batch["label"]))
    with pytest.raises(ValueError, match="labels=None: must be classes"):
        obedience(DIGITS, asked, batch["image"], None)


def test_a_share_is_of_those_asked_and_its_error_that_of_a_mean():
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 2, 400).astype(float)
    assert share(hits).stderr == pytest.approx(100 * hits.std(ddof=1) / 20, rel=1e-6)
    hits[rng.integers(0, 400, 150)] = np.nan
    found = share(hits)
    assert found.value == pytest.approx(100 * np.nanmean(hits))
    num = (~np.isnan(hits)).sum()
    # Of a ratio, whose denominator varies too, to O(1/num).
    assert found.stderr == pytest.approx(100 * np.nanstd(hits) / num**0.5, rel=0.01)


def test_everything_is_there_where_nothing_is_missing():
    several = {"a": np.array([1.0, 1.0, np.nan, np.nan]), "b": np.array([1.0, 0.0, 1.0, np.nan])}
    assert np.array_equal(everything(several), [1.0, 0.0, 1.0, np.nan], equal_nan=True)
