"""Configs' strings as calls: what is read, what is refused, and that nothing else is ever run."""

import pytest

from vdm import parsing


def pair(a=1.0, b=2.0):
    if a == 13:
        raise ValueError("a=13: must be another")
    return "pair", a, b


CONSTRUCTORS = {"pair": pair, "none": lambda: "none"}


def literal(value):
    return value


@pytest.mark.parametrize(("text", "result"), [
    ("pair", ("pair", 1.0, 2.0)),
    ("pair()", ("pair", 1.0, 2.0)),
    (" pair(3) ", ("pair", 3.0, 2.0)),
    ("pair(-3, b=1e-2)", ("pair", -3.0, 0.01)),
    ("pair(b=inf, a=-2.5)", ("pair", -2.5, float("inf"))),
    ("none", "none"),
])  # fmt: skip
def test_calls_with_numbers(text, result):
    assert parsing.call(text, CONSTRUCTORS, "field") == result


def test_numbers_are_floats_and_literals_are_as_they_stand():
    assert type(parsing.call("pair(3)", CONSTRUCTORS, "field")[1]) is float
    values = parsing.call("pair(3, True)", CONSTRUCTORS, "field", literal)[1:]
    assert [(type(value), value) for value in values] == [(int, 3), (bool, True)]
    assert parsing.call("pair(word, b='two words')", CONSTRUCTORS, "field", literal)[1:] == ("word", "two words")


@pytest.mark.parametrize("text", [
    "", "pair(", "pair)", "2 +", "pair(word)", "pair(True)", "pair('1')", "pair(None)", "pair(1, **b)", "pair(*a)",
    "pair(a=1, a=2)", "pair(2 * 3)", "pair(1e999999999999j)", "pair([1])", "pair(exit())",
])  # fmt: skip
def test_what_is_no_call_with_numbers_is_refused(text):
    with pytest.raises(ValueError, match=r"^field=.*: must be a name such as pair, or a name with numbers: name\(2\)$"):
        parsing.call(text, CONSTRUCTORS, "field")


@pytest.mark.parametrize(
    "text", ["pear", "pair.real", "pair(1)(2)", "1", "lambda: 1", "(pair)()()", "__import__('os')"]
)
def test_other_names_are_refused_with_the_valid_ones(text):
    with pytest.raises(ValueError, match=r"^field=.*: must be one of pair, none$"):
        parsing.call(text, CONSTRUCTORS, "field", literal)


@pytest.mark.parametrize(("text", "says"), [
    ("pair(1, 2, 3)", r"takes .*; it is pair\(a=1.0, b=2.0\)"),
    ("pair(c=1)", r"unexpected keyword argument 'c'; it is pair\(a=1.0, b=2.0\)"),
    ("pair(1, a=2)", r"multiple values .*; it is pair\(a=1.0, b=2.0\)"),
    ("pair(13)", r"a=13: must be another; it is pair\(a=1.0, b=2.0\)"),
    ("none(1)", r"; it is none\(\)"),
])  # fmt: skip
def test_parameters_it_does_not_take_are_refused_with_those_it_does(text, says):
    with pytest.raises(ValueError, match=r"^field=.*: .*" + says + "$"):
        parsing.call(text, CONSTRUCTORS, "field")


@pytest.mark.parametrize("value", [True, None, "1", "Infinity", 1j, [1]])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match="is not a number"):
        parsing.number(value)
