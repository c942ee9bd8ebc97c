"""Numbers on the command line: what Python takes for one and nobody writes is refused, with the flag's name."""

import pytest
from absl import flags

from vdm.errors import InputError
from vdm.programs.command_line import _check_number, _check_paths_and_numbers, _given
from vdm.programs.evaluate import parse_steps
from vdm.programs.profile import parse_traced_steps
from vdm.programs.sample import with_eta

ODD = ("²", "１", "1_000", "0x10", " 1", "1.0", "9" * 5000, str(2**31))


@pytest.mark.parametrize("text", [*ODD, "", "0", "-1", "inf,", "10,10", "inf,5,inf", "5,,6", "nan", "1e3"])
def test_numbers_of_time_steps(text):
    assert parse_steps("5,inf,010") == [5, None, 10]
    with pytest.raises(InputError, match=r"^--T=.*(must be a whole number from 1 to 1000000, or inf|is listed twice)$"):
        parse_steps(text)


@pytest.mark.parametrize("text", [*(f"{odd}:{odd}" for odd in ODD), "3", "3:", ":3", "3:2", "0:3", "1:2:3", ""])
def test_steps_to_trace(text):
    assert parse_traced_steps("10:20") == (10, 20)
    with pytest.raises(InputError, match=r"^--profile_steps=.*: must be FIRST:LAST"):
        parse_traced_steps(text)


def test_one_eta_only():
    assert with_eta("ddim", 0.5) == "ddim(0.5)"
    for sampler, says in (("ddim(0.2)", "has one already"), ("ddim(eta=0)", "has one already"), ("heun", "has no eta")):
        with pytest.raises(InputError, match=f"--eta=0.5: sampler .* {says}; must go with --sampler=ddim"):
            with_eta(sampler, 0.5)


@pytest.mark.parametrize("text", [*ODD[:-1], "-inf", "nan", "a", "1e5"])
def test_a_whole_number_of_a_field(text):
    with pytest.raises(InputError, match=r"^--config.training.steps=.*: must be a whole number$"):
        _check_number("config.training.steps", text, int)


@pytest.mark.parametrize("text", ["²", "１", "1_0", "nan", "inf", "-Infinity", "1e400", "0x1p3", "1,5"])
def test_a_number_of_a_field(text):
    for fine in ("1", "-1", "1e-3", "None", ""):
        _check_number("config.x", fine, float | None)
    with pytest.raises(InputError, match=r"^--config.x=.*: must be a finite number$"):
        _check_number("config.x", text, float)


def test_folders_have_names_and_flags_have_numbers(monkeypatch):
    own = flags.FlagValues()
    flags.DEFINE_integer("num", None, "", flag_values=own)
    flags.DEFINE_float("stderr", None, "", flag_values=own)
    flags.DEFINE_string("T", None, "", flag_values=own)
    monkeypatch.setattr(flags, "FLAGS", own)
    _check_paths_and_numbers(_given(["--num=3", "--stderr", "-0.5", "--T=²", "--workdir=a", "--other=²"]))
    for argv, says in (
        (["--num=²"], "--num=²: must be a whole number"),
        (["--num", "1_0"], "--num=1_0: must be a whole number"),
        (["--stderr=inf"], "--stderr=inf: must be a finite number"),
        (["--workdir="], "--workdir=: must be the name of a folder"),
        (["--run="], "--run=: must be the name of a folder"),
    ):
        with pytest.raises(InputError, match=f"^{says}$"):
            _check_paths_and_numbers(_given(argv))


def test_a_negative_number_is_a_value_of_the_flag_before_it():
    assert _given(["--a", "-1", "--b", "-.5", "--c", "--d=-2", "--e", "x"]) == {
        "a": "-1", "b": "-.5", "c": "", "d": "-2", "e": "x"
    }  # fmt: skip
