"""What JSON and numbers may be, and that anything else is one line of `InputError`, never another exception."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vdm.errors import InputError
from vdm.reading import DEEPEST, field, is_whole, number, parse_json, read_json, shown, whole

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
tables = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=4)


@settings(max_examples=200, deadline=None)
@given(tables)
def test_every_table_that_is_written_is_read(table):
    assert parse_json(json.dumps(table).encode(), "here") == table
    assert parse_json(json.dumps(table, ensure_ascii=False).encode(), "here") == table


def fields(table):
    """The dotted names of all that is in it, where no name has a dot of its own."""
    for name, value in table.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in fields(value))


def refusal(read, *args):
    """The message of what `read` refuses; None if it takes it."""
    try:
        read(*args)
    except ValueError as error:
        return str(error)
    return None


@settings(max_examples=200, deadline=None)
@given(st.binary() | tables.map(lambda table: json.dumps(table).encode()), st.data())
def test_whatever_the_bytes_it_is_a_table_or_one_line(encoded, data):
    """Bytes of any kind, and those of tables with some of them changed."""
    for _ in range(data.draw(st.integers(0, 3))):
        k = data.draw(st.integers(0, len(encoded)))
        encoded = encoded[:k] + data.draw(st.binary(max_size=3)) + encoded[k + data.draw(st.integers(0, 3)) :]
    try:
        table = parse_json(encoded, "here")
    except InputError as error:
        message = str(error)
    else:
        message = "here: "
        json.dumps(table, allow_nan=False).encode()
        for name in fields(table):
            for kind in (int, float, str, dict, tuple[int, ...]):
                line = refusal(field, table, name, kind, "here")
                assert line is None or len(line.splitlines()) == 1
    assert message.startswith("here: ")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(("encoded", "says"), [
    (b"", "is empty; must be a table in JSON"),
    (b" \n", "is empty"),
    (b'{"a": 1', "not valid JSON"),
    (b'{"a": 1} {', "not valid JSON"),
    (b'{"a": \xff}', "not UTF-8 text: byte 6 is 0xff"),
    ('{"a": 1}'.encode("utf-16"), "not UTF-8 text"),
    (b'\xef\xbb\xbf{"a": 1}', "byte-order mark"),
    (b"[1]", "found a list; must be a table"),
    (b"7", "found a number; must be a table"),
    (b"null", "found null; must be a table"),
    (b'"a"', "found a string; must be a table"),
    (b'{"a": NaN}', "NaN is not a JSON number"),
    (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
    (b'{"a": {"b": [1, 1e400]}}', r"a\.b\.1: found an infinite number"),
    (b'{"a": 9223372036854775808}', "9223372036854775808 is beyond 64 bits"),
    (b'{"a": ' + b"9" * 5000 + b"}", r"9+\.\.\.9+ is beyond 64 bits"),
    (b"[" * 100_000, "nested deeper than 20 levels"),
    (b'{"a":' * 22 + b"1" + b"}" * 22, "nested deeper than 20 levels"),
    (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c' appears twice"),
    (b'{"a": "\\ud800"}', "a: found half of a character"),
    (b'{"\\udfff": 1}', "found half of a character"),
])  # fmt: skip
def test_what_is_refused(encoded, says, tmp_path):
    (tmp_path / "a.json").write_bytes(encoded)
    with pytest.raises(InputError, match=f"a.json: .*{says}") as caught:
        read_json(tmp_path / "a.json", {})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_as_deep_and_as_large_as_it_may_be():
    text = b'{"a":' * DEEPEST + b'{"n": -9223372036854775808, "x": 1.7e308}' + b"}" * DEEPEST
    assert json.loads(text) == parse_json(text, "")


def test_numbers_that_are_not_finite_where_they_are_allowed():
    found = parse_json(b'{"a": NaN, "b": Infinity, "c": 1e999}', "here", finite=False)
    assert math.isnan(found["a"])
    assert (found["b"], found["c"]) == (math.inf, math.inf)


def test_files_that_are_none(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert read_json(tmp_path / "none", {"there": False}) == {"there": False}
    for name, says in (("none", "no such file"), ("loop", "symbolic links"), ("", "Is a directory")):
        with pytest.raises(InputError, match=says):
            read_json(tmp_path / name)


def test_fields():
    table = {"a": {"b": 2, "c": [1, 2]}, "d": None}
    assert repr(field(table, "a.b", float, "f")) == "2.0"
    assert field(table, "a.c", tuple[int, ...], "f") == (1, 2)
    assert field(table, "d", int | None, "f") is None
    assert field(table, "a.e", int, "f", 7) == field(table, "x.e", int, "f", 7) == 7
    for name, kind, says in (
        ("a.b", str, "a.b=2: must be a string"),
        ("a", list, r"a=\{'b': 2, 'c': \[1, 2\]\}: must be a list"),
        ("d", dict, "d=None: must be a table"),
        ("a.b.c", int, "a.b: found a number; must be a table"),
        ("a.e", int, "has no a.e"),
        ("e.f", int, "has no e"),
    ):
        with pytest.raises(InputError, match=f"^f: {says}$"):
            field(table, name, kind, "f", *([7] if name == "a.b.c" else []))


# All that Python's own readers of numbers take: digits of other scripts, underscores, blanks, other bases.
ODD = ["", " 1", "1 ", "1\n", "1_000", "²", "１", "٣", "0x10", "1e", "--1", "+", ".", "e3", "nan", "inf", "-Infinity",
       "None", "1,0", "1e400", "9" * 400, "9" * 5000, "½", "1j", "True", "\x00", "\ud800"]  # fmt: skip


@pytest.mark.parametrize("text", [*ODD, "1.0", "1e3", "0", "11", "-1"])
def test_what_is_no_whole_number_from_1_to_10(text):
    with pytest.raises(ValueError, match=r"^must be a whole number from 1 to 10$"):
        whole(text, 1, 10)


@pytest.mark.parametrize("text", ODD)
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match=r"^must be a finite number$"):
        number(text)


@settings(max_examples=200, deadline=None)
@given(st.text() | st.integers().map(str) | st.floats().map(repr))
@example("²")
def test_numbers_are_what_python_reads_or_refused(text):
    most = 10**17
    line = refusal(whole, text, -most, most)
    assert whole(text, -most, most) == int(text) if line is None else line.startswith("must be a whole number from ")
    line = refusal(number, text)
    assert number(text) == float(text) if line is None else line == "must be a finite number"
    assert not is_whole(text) or (text.isascii() and int(text) >= 0)


def test_numbers():
    assert [whole(text, -9, 999) for text in ("0", "-0", "+7", "007", "-9", "999")] == [0, 0, 7, 7, -9, 999]
    assert [number(text) for text in ("1", "-.5", "2.", "1e-3", "+1E+2", "1e-400")] == [1, -0.5, 2, 1e-3, 100, 0]
    assert [is_whole(text) for text in ("0", "12", "²", "１", "-1", "", "1 ")] == [True, True, *[False] * 5]


def test_what_is_shown_is_short_and_one_line():
    for value in (10**5000, "x" * 10_000, list(range(10**5)), {k: k for k in range(10**4)}, "\n\ud800"):
        assert len(shown(value)) < 200
        assert shown(value).isascii()
        assert len(shown(value).splitlines()) == 1
