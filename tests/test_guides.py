"""What texts of guidance mean, and what they refuse."""

import math

import pytest

from vdm import parts
from vdm.config import SamplingConfig
from vdm.settings import in_file_name


def test_numbers_are_apart_from_the_program():
    one, other = (parts.make("guidance", f"classifier_free({text})") for text in ("1", "2.5, (-4, inf), 0.7, 3"))
    assert one.program == other.program
    assert one.numbers == {"scale": 1, "low": -math.inf, "high": math.inf, "rescale": 0, "negative": -1}
    assert other.numbers == pytest.approx({"scale": 2.5, "low": -4, "high": math.inf, "rescale": 0.7, "negative": 3})
    programs = ["none", "classifier_free", "apg", "autoguidance", "autoguidance(weak='3')", "classifier",
                "classifier(shifted=True)"]  # fmt: skip
    made = [parts.make("guidance", text).program for text in programs]
    assert all(a != b for k, a in enumerate(made) for b in made[:k])


@pytest.mark.parametrize(("text", "says"), [
    ("classifier_free(1e4)", "scale=10000.0: must be a number from -1000 to 1000"),
    ("classifier_free(interval=(3, -4))", r"interval=\(3.0, -4.0\): must be two γ, the lower first"),
    ("classifier_free(interval=(nan, 2))", "interval=.*: must be two γ"),
    ("classifier_free(interval=2)", "interval=2: must be a tuple of a number, a number"),
    ("classifier_free(interval=(1, 2, 3))", "interval=.*: must be a tuple of a number, a number"),
    ("classifier_free(interval=(1, none))", "must be a name such as none, or a name with arguments"),
    ("classifier_free(rescale=1.5)", "rescale=1.5: must be a number from 0 to 1"),
    ("classifier_free(negative=-1)", "negative=-1: must be a label, 0 or more"),
    ("classifier_free(negative=2.5)", "negative=2.5: must be a whole number or a string or None"),
    ("classifier_free(negative=' ')", "negative='': must be a caption that is not empty, or None"),
    ("composed(('a',))", r"weights=\(1.0,\): must be 2 numbers, one of the images' own condition and one for each"),
    ("composed(weights=(nan,))", r"weights=\(nan,\): must be numbers from -1000 to 1000"),
    ("composed((1, 'a'), (1, 1, 1))", "others=.*: must be a tuple, each a string or a tuple, each a whole number"),
    ("composed((-1,), (1, 1))", r"others=\(-1,\): must be labels, 0 or more"),
    ("composed(('',), (1, 1))", "others: must be captions that are not empty"),
    ("apg(norm=-1)", "norm=-1.0: must be a number from 0 to inf"),
    ("apg(eta=2)", "eta=2.0: must be a number from -1 to 1"),
    ("classifier_fee(2)", "must be one of none, classifier_free, apg, autoguidance, classifier"),
])  # fmt: skip
def test_bad_texts_are_refused(text, says):
    with pytest.raises(parts.PartError, match=says):
        parts.make("guidance", text)


def test_names_of_files_have_the_guidance():
    settings = SamplingConfig(guidance="classifier_free(1.5, interval=(-4, 3))", guidance_batch="apart")
    assert in_file_name(settings) == "T_250_ancestral_classifier_free_1.5_interval=_-4_3"
    assert in_file_name(SamplingConfig()) == "T_250_ancestral"
