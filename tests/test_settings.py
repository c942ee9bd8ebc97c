"""Fields that know their limits: all that is derived from them, on dataclasses of the tests' own."""

import dataclasses
import re
from dataclasses import dataclass, field

import pytest

from vdm import settings as s
from vdm.config import Config, SamplingConfig, TrainingConfig
from vdm.errors import InputError
from vdm.programs import help_text
from vdm.settings import InName, setting


@dataclass
class Inner:
    rate: float = setting(0.5, "A rate.", s.fraction())
    word: str = setting("a", "A word.", s.one_of("a", "b"), affects="running")
    sampler: str = setting("heun", "A sampler.", s.part("sampler"), affects="running", in_name=InName("with_{}"))


@dataclass
class Outer:
    num: int = setting(
        3, "A number.", s.at_least(1), s.between(1, 9), affects="model", in_name=InName("N_{}", always=True)
    )
    steps: tuple[int, ...] | None = setting(None, "Steps.", s.increasing_steps())
    flag: bool = setting(False, "A flag.", affects="running", in_name=InName("flagged"))
    inner: Inner = field(default_factory=Inner)


def outer(**inner: object) -> Outer:
    return Outer(inner=Inner(**inner))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Outer(num=0), "here.num=0: must be 1 or more"),
        (Outer(num=10), "here.num=10: must be from 1 to 9"),
        (Outer(num=True), "here.num=True: must be a whole number"),
        (Outer(num=None), "here.num=None: must be a whole number"),
        (Outer(steps=(2, 1)), "here.steps=(2, 1): must be increasing numbers from 1 to 1000000, or None"),
        (Outer(steps=(1, 1)), "here.steps=(1, 1): must be increasing"),
        (Outer(steps=("a",)), "here.steps=('a',): must be a tuple, each a whole number or None"),
        (Outer(flag=1), "here.flag=1: must be True or False"),
        (outer(rate=1.0), "here.inner.rate=1.0: must be in [0, 1)"),
        (outer(rate=float("nan")), "here.inner.rate=nan: must be in [0, 1)"),
        (outer(word="c"), "here.inner.word='c': not one of a, b"),
        (
            outer(sampler="heun(9)"),
            "here.inner.sampler='heun(9)': churn=9.0: must be a number from 0 to 0.41",
        ),
    ],
)
def test_limits(value: Outer, message: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(message)):
        s.check(value, "here")


def test_what_is_within_limits_passes() -> None:
    s.check(Outer())
    s.check(Outer(num=9, steps=(1, 5), inner=Inner(rate=0, word="b", sampler="ddim(0.5)")))


def test_what_differs_by_what_depends_on_it() -> None:
    new = Outer(num=4, flag=True, inner=Inner(rate=0.25, word="b", sampler="heun(0)"))
    assert s.differing(Outer(), new, "model") == {"num": (3, 4)}
    assert s.differing(Outer(), new, "model", "training") == {"num": (3, 4), "inner.rate": (0.5, 0.25)}
    assert set(s.differing(Outer(), new, "running")) == {"flag", "inner.word"}


def test_records_and_names_of_files() -> None:
    assert s.recorded(Outer()) == {"num": 3, "flag": False, "inner.sampler": "heun"}
    assert s.in_file_name(Outer()) == "N_3"
    value = Outer(num=4, flag=True, inner=Inner(sampler="heun(churn=0.1)"))
    assert s.in_file_name(value) == "N_4_flagged_with_heun_churn=0.1"


def test_names_of_files_are_as_long_as_they_may_be() -> None:
    long, longer = (SamplingConfig(labels=",".join(["数字"] * num)) for num in (100, 101))
    names = [s.in_file_name(long), s.in_file_name(longer)]
    assert names[0].startswith("T_250_ancestral_labels_数字_数字_")
    assert names[0] != names[1]
    assert all(150 <= len(name.encode()) <= s.LONGEST_NAME for name in names)


def test_names_of_files_tell_texts_apart() -> None:
    names = {s.in_file_name(SamplingConfig(text=text)) for text in ("a cat", "a, cat", "a\ncat", "a cat\n" * 99)}
    assert len(names) == 4
    assert all(re.fullmatch(r"T_250_ancestral_text_a_cat[\w]*_[0-9a-f]{8}", name) and len(name) < 80 for name in names)


@pytest.mark.parametrize("text", ["", " \n ", "a" * (s.MOST_TEXT + 1)])
def test_a_text_has_words_and_an_end(text: str) -> None:
    with pytest.raises(InputError, match=r"^sampling\.text=.*: must be words, at most 1048576 letters, or None$"):
        s.check(SamplingConfig(text=text), "sampling")


def test_json() -> None:
    there = {"num": 4, "steps": [1, 2], "inner": {"rate": 0}}
    read = s.from_dict(Outer, there)
    assert read == Outer(num=4, steps=(1, 2), inner=Inner(rate=0.0))
    assert type(read.inner.rate) is float
    for wrong, message in (
        ({"nun": 1}, "config.nun: no such field; valid: num, steps, flag, inner"),
        ({"inner": {"rat": 1}}, "config.inner.rat: no such field; valid: rate, word, sampler"),
        ({"num": "many"}, "config.num='many': must be a whole number"),
        ({"inner": {"rate": True}}, "config.inner.rate=True: must be a number"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            s.from_dict(Outer, wrong)


def test_help() -> None:
    found = {each.name: each.help for each in s.settings(Outer())}
    assert found["num"] == "A number. (1 or more; from 1 to 9)"
    assert found["steps"] == "Steps. (increasing numbers from 1 to 1000000, or None)"
    assert found["flag"] == "A flag."
    assert "heun" in found["inner.sampler"]


def test_a_new_field_of_a_config_is_one_line() -> None:
    """Validation, JSON, refusal and help follow from its declaration alone."""

    @dataclass
    class Longer(TrainingConfig):
        patience: int = setting(5, "Evaluations without progress.", s.between(1, 9))

    @dataclass
    class New(Config):
        training: Longer = field(default_factory=Longer)

    of_train = ("train.py", "Train.", ("vdm.programs.commands.train",), "digits", None)
    text = help_text.help_of(*of_train, full=True, documented=New)
    assert "  --config.training.patience=5\n      Evaluations without progress. (from 1 to 9)" in text
    old, new = New(), New(training=Longer(patience=10))
    assert s.differing(old, new, "model", "training") == {"training.patience": (5, 10)}
    assert s.from_dict(New, dataclasses.asdict(new)) == new
    with pytest.raises(InputError, match=r"config\.training\.patience=10: must be from 1 to 9"):
        s.check(new)
