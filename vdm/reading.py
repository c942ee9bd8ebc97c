"""Readers of JSON files and numbers from untrusted sources, whose errors are single lines that say what is wrong."""

import json
import math
import os
import re
import reprlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdm.annotations import convert
from vdm.errors import InputError

DEEPEST = 20
"""Maximum nesting depth of tables and lists in a JSON file; vdm's own files have five levels."""

_FOUND = {dict: "a table", list: "a list", bool: "true or false", str: "a string", types.NoneType: "null"}

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 8


def shown(value: Any) -> str:
    """Return a value as messages show it: its repr, abbreviated if long.

    >>> shown(list(range(1000)))
    '[0, 1, 2, 3, 4, 5, 6, 7, ...]'
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to format integers of more than 4300 digits.
        return "a number of thousands of digits"


def found(value: Any) -> str:
    """Return the kind of a JSON value, e.g. "a list"."""
    return _FOUND.get(type(value), "a number")


def read_json(path: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the table in a JSON file, or `otherwise`, if given, when there is no such file.

    Raises `InputError` naming the file if it is missing or unreadable, and as `parse_json` does.
    """
    if otherwise is not None and not os.path.lexists(path):
        return otherwise
    return parse_json(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file. Raises `InputError` naming the file if it is missing or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises `InputError` naming the file if it is not UTF-8, and as `read_bytes` does.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def parse_json(encoded: bytes, where: Path | str, finite: bool = True) -> dict[str, Any]:
    """Return the table that UTF-8 encoded JSON holds. Raises `InputError`, naming `where`, for anything else.

    Refused are: a byte-order mark, a name that occurs twice in one table, more than `DEEPEST` levels, a number that is
    not finite (unless `finite` is False) or beyond 64 bits, text that is not Unicode, and a list, string or number in
    place of the table.

    >>> parse_json(b'{"step": 3}', "here")
    {'step': 3}
    """
    try:
        text = encoded.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text: byte {error.start} is 0x{encoded[error.start]:02x}") from error
    if not text.strip():
        raise InputError(f"{where}: is empty; must be a table in JSON")
    if text.startswith("\ufeff"):
        raise InputError(f"{where}: begins with a byte-order mark; must be UTF-8 without one")
    try:
        constant = _no_constant if finite else None
        value = json.loads(text, object_pairs_hook=_table, parse_int=_integer, parse_constant=constant)
    except RecursionError as error:
        raise InputError(f"{where}: nested deeper than {DEEPEST} levels") from error
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: found {found(value)}; must be a table")
    _check(value, where, finite)
    return value


def field(
    values: dict[str, Any], name: str | tuple[str, ...], annotation: Any, where: Path | str, *otherwise: Any
) -> Any:
    """Return a field of a table from `read_json`, converted to its annotation.

    `name` is dotted, or a tuple of the words between the dots. A missing field has the value `otherwise`, if given.
    Raises `InputError`, naming the file `where`, for a missing field, a field of another type, and a parent that is not
    a table.

    >>> field({"bits_per_dim": {"total": 2}}, "bits_per_dim.total", float, "evaluation.json")
    2.0
    """
    value: Any = values
    words = name.split(".") if isinstance(name, str) else name
    for k, word in enumerate(words):
        if not isinstance(value, dict):
            raise InputError(f"{where}: {_name(words[:k])}: found {found(value)}; must be a table")
        if word not in value:
            if otherwise:
                return otherwise[0]
            raise InputError(f"{where}: has no {_name(words[: k + 1])}")
        value = value[word]
    try:
        return convert(value, annotation)
    except ValueError as error:
        raise InputError(f"{where}: {_name(words)}={shown(value)}: {error}") from error


def whole(text: str, low: int = -(10**18), high: int = 10**18) -> int:
    """Return the whole number in a text of ASCII digits, with or without a sign.

    Raises ValueError for any other text, and unless the number is from `low` to `high`.

    >>> whole("250", 1, 1000)
    250
    """
    number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None
    if number is None or not low <= number <= high:
        raise ValueError("must be a whole number" + f" from {low} to {high}" * (high < 10**18))
    return number


def is_whole(text: str) -> bool:
    """Return whether a text consists of ASCII digits, like the names of checkpoints' folders.

    Python also counts "²" as a digit.
    """
    return re.fullmatch(r"[0-9]{1,18}", text) is not None


def number(text: str) -> float:
    """Return the number in a text of decimal digits, e.g. -1.5e-3.

    Raises ValueError for any other text, nan, inf, and numbers that overflow to inf.

    >>> number("1e-3")
    0.001
    """
    written = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text)
    value = float(text) if written else math.nan
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{shown(next(name for name in table if names.count(name) > 1))} appears twice")
    return table


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{shown(text)[1:-1]} is beyond 64 bits")
    return int(text)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _name(words: Sequence[str]) -> str:
    """A dotted name as messages show it, since it may have any length and any characters."""
    return shown(".".join(words))[1:-1]


def _check(table: dict[str, Any], where: Path | str, finite: bool) -> None:
    waiting: list[tuple[tuple[str, ...], Any]] = [((), table)]
    while waiting:
        name, value = waiting.pop()
        if problem := _problem(value, len(name), finite):
            raise InputError(f"{where}: {_name(name[:4])}: {problem}")
        if isinstance(value, dict):
            waiting += [((*name, key), each) for key, each in value.items()]
            waiting += [((*name, key), key) for key in value if not key.isascii()]
        elif isinstance(value, list):
            waiting += [((*name, str(k)), each) for k, each in enumerate(value)]


def _problem(value: Any, depth: int, finite: bool) -> str | None:
    """What is wrong with a JSON value itself, not counting what it contains."""
    if isinstance(value, float) and finite and not math.isfinite(value):
        return "found an infinite number"
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return "found half of a character (a lone surrogate)"
    if isinstance(value, dict | list) and depth > DEEPEST:
        return f"nested deeper than {DEEPEST} levels"
    return None
