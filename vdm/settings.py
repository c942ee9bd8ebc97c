"""Dataclass fields with a description, limits, and a record of what depends on them.

    @dataclass
    class Settings:
        draws: int = setting(250, "Network calls per image.", at_least(1))

`settings` reads these fields: checks, refusals to resume, records, file names and help texts are all derived from them.
"""

import dataclasses
import hashlib
import operator
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from vdm import parts
from vdm.annotations import convert, takes_none
from vdm.errors import InputError
from vdm.reading import found, shown

Affects = Literal["model", "training", "running"]
"""What depends on a field: what a checkpoint's arrays mean; what is trained; or neither, so that it may change."""

# For more steps, float32 times i/T would not be distinct enough.
MAX_STEPS = 1_000_000

LONGEST_NAME = 160
"""Maximum number of bytes of settings in a file's name: file systems allow 255 bytes for the whole name."""

LONGEST_BEGINNING = 40
"""Maximum number of characters of a long text in a file's name."""

MOST_TEXT = 2**20
"""Maximum number of characters in a text of several lines."""

MAX_INT = 2**31 - 1
"""The largest int32."""

MAX_SIDE = 2**16
"""Maximum side of an image."""

MIN_FLOAT, MAX_FLOAT = 2.0**-126, 3.4e38
"""The smallest normal float32 number and, approximately, the largest."""


class Limit(NamedTuple):
    """The values that a field may take."""

    problem: Callable[[Any], str | None]
    """What is wrong with a value, e.g. "must be 1 or more"; None if nothing is."""
    allowed: Callable[[], str]
    """The allowed values, as help texts describe them."""
    same: Callable[[Any, Any], bool] = operator.eq
    """Whether two values mean the same."""
    words: Callable[[], Sequence[str]] = tuple
    """The allowed words, for a field that is, or begins with, one of them."""


class InName(NamedTuple):
    """How a setting enters images' file names: its value in a template, omitted at its default unless `always`."""

    template: str = "{}"
    always: bool = False
    of: Callable[[Any], Any] = lambda value: value
    """Maps the value to what the template shows."""


class Setting(NamedTuple):
    """A leaf field of a dataclass, or of a dataclass nested in it."""

    name: str
    """Dotted name, e.g. "training.steps"."""
    value: Any
    annotation: Any
    default: Any
    doc: str
    limits: tuple[Limit, ...]
    affects: Affects
    in_name: InName | None

    @property
    def help(self) -> str:
        """The description and the allowed values."""
        allowed = "; ".join(filter(None, (limit.allowed() for limit in self.limits)))
        none = ", or None" if allowed and takes_none(self.annotation) else ""
        return f"{self.doc} ({allowed}{none})" if allowed else self.doc

    def problem(self) -> str | None:
        """What is wrong with the value; None if nothing is."""
        try:
            value = convert(self.value, self.annotation)
        except ValueError as error:
            return str(error)
        if value is None:
            return None
        problems = (limit.problem(value) for limit in self.limits)
        found = next(filter(None, problems), None)
        return f"{found}, or None" if found and takes_none(self.annotation) else found

    def same(self, other: Any) -> bool:
        """Whether another value means the same."""
        if self.value is None or other is None:
            return self.value is other
        return all(limit.same(self.value, other) for limit in self.limits) if self.limits else self.value == other


def setting(
    default: Any, doc: str, *limits: Limit, affects: Affects = "training", in_name: InName | None = None
) -> Any:
    """Declare a dataclass field by its default, a description, its limits, and what depends on it."""
    metadata = {"doc": doc, "limits": limits, "affects": affects, "in_name": in_name}
    return dataclasses.field(default=default, metadata=metadata)


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """Iterate over the leaf fields of a dataclass, in order."""
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        name, value = prefix + f.name, getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{name}.")
        else:
            known: dict[str, Any] = {"doc": "", "limits": (), "affects": "training", "in_name": None}
            yield Setting(name, value, hints[f.name], f.default, **known | dict(f.metadata))


def check(config: Any, where: str = "config") -> None:
    """Raise `InputError` for the first field with an invalid value."""
    for each in settings(config):
        if problem := each.problem():
            raise InputError(f"{where}.{each.name}={shown(each.value)}: {problem}")


def flatten(config: Any) -> dict[str, Any]:
    """Return every leaf field by its dotted name: {"training.steps": 100, …}."""
    return {each.name: each.value for each in settings(config)}


def differing(old: Any, new: Any, *affects: Affects) -> dict[str, tuple[Any, Any]]:
    """Return the fields that `affects` selects and whose values do not mean the same: (old, new) by name."""
    now = {each.name: each for each in settings(new)}
    return {
        each.name: (each.value, now[each.name].value)
        for each in settings(old)
        if each.affects in affects and not each.same(now[each.name].value)
    }


def recorded(config: Any) -> dict[str, Any]:
    """Return all settings that images depend on: those that can enter a file's name."""
    return {each.name: each.value for each in settings(config) if each.in_name is not None}


def in_words(config: Any) -> dict[str, str]:
    """Return, by field, what file names show: T_250, ddim(0.5), karras; most settings only if not at their defaults."""
    return {
        each.name: each.in_name.template.format(each.in_name.of(each.value))
        for each in settings(config)
        if each.in_name is not None and (each.in_name.always or not each.same(each.default))
    }


def in_file_name(config: Any) -> str:
    """Return the settings as part of a file's name, e.g. T_250_ddim_0.5_karras, `shortened`.

    It has letters, digits and _.=- only.
    """
    return shortened("_".join(map(as_word, in_words(config).values())))


def shortened(name: str) -> str:
    """Shorten a name to at most `LONGEST_NAME` bytes, replacing the end of a longer one by a hash of the whole.

    >>> shortened("T_250_ddim"), len(shortened(200 * "a"))
    ('T_250_ddim', 160)
    """
    content = name.encode()
    if len(content) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{content[: LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}_{digest}"


def as_word(text: str) -> str:
    """Make a text part of a file's name: runs of other characters than letters, digits and _.=- become _."""
    return re.sub(r"[^\w.=-]+", "_", text).strip("_")


def digested(text: str) -> str:
    """Return the beginning of a long text and a digest of the whole: how file names show captions.

    >>> digested("a bold seven")
    'a bold seven 33a8e78e'
    """
    return f"{text[:LONGEST_BEGINNING].strip()} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def from_dict(cls: type, values: Any, where: str = "config.") -> Any:
    """Return a dataclass from the JSON values of its fields; `where` is what messages put before a field's name.

    Raises `InputError` if `values` is not a table, and for an unknown field or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    if not isinstance(values, Mapping):
        raise InputError(f"{where.rstrip('.: ')}: found {found(values)}; must be a table of {', '.join(hints)}")
    if unknown := sorted(set(values) - set(hints)):
        raise InputError(f"{where}{shown(unknown[0])[1:-1]}: no such field; valid: {', '.join(hints)}")

    def field(name: str, value: Any) -> Any:
        if dataclasses.is_dataclass(hints[name]):
            return from_dict(typing.cast(type, hints[name]), value, f"{where}{name}.")
        try:
            return convert(value, hints[name])
        except ValueError as error:
            raise InputError(f"{where}{name}={shown(value)}: {error}") from error

    return cls(**{name: field(name, value) for name, value in values.items()})


def at_least(least: int | float) -> Limit:
    """≥ `least`, and representable in an array: int32 for whole numbers, float32 for others."""

    def problem(value: int | float) -> str | None:
        most = MAX_INT if isinstance(value, int) else MAX_FLOAT
        if not value >= least:
            return f"must be {least} or more"
        return None if value <= most else f"must be at most {most}"

    return Limit(problem, lambda: f"{least} or more")


def between(low: int | float, high: int | float) -> Limit:
    """≥ `low` and ≤ `high`."""
    return _must(lambda value: low <= value <= high, f"from {low} to {high}")


def positive() -> Limit:
    """> 0, and a normal float32 number."""
    return _must(lambda value: MIN_FLOAT <= value <= MAX_FLOAT, f"from {MIN_FLOAT:g} to {MAX_FLOAT:g}")


def fraction() -> Limit:
    """≥ 0 and < 1."""
    return _must(lambda value: 0 <= value < 1, "in [0, 1)")


def steps() -> Limit:
    """A number of time steps."""
    return between(1, MAX_STEPS)


def increasing_steps() -> Limit:
    """Increasing numbers of time steps."""
    return _must(
        lambda value: all(1 <= n <= MAX_STEPS for n in value) and list(value) == sorted(set(value)),
        f"increasing numbers from 1 to {MAX_STEPS}",
    )


def each(low: int, high: int) -> Limit:
    """Several numbers, each ≥ `low` and ≤ `high`."""
    return _must(lambda value: all(low <= n <= high for n in value), f"each from {low} to {high}")


def data_shape() -> Limit:
    """The shape of an image, or of a vector of real numbers."""
    holds = lambda value: 1 <= len(value) <= 3 and 1 <= min(value) <= max(value) <= MAX_SIDE  # noqa: E731
    return _must(holds, f"(height, width, channels), or (features,) of vectors, each from 1 to {MAX_SIDE}")


def num_levels() -> Limit:
    """The number of integer values per pixel, or 0 for real numbers."""
    return _must(lambda value: value == 0 or 2 <= value <= 256, "from 2 to 256, or 0 for real numbers")


def one_of(*names: str) -> Limit:
    """One of these words."""
    listed = ", ".join(names)
    return Limit(lambda value: None if value in names else f"not one of {listed}", lambda: listed, words=lambda: names)


def lines() -> Limit:
    """A text that is not blank, of one or several lines."""
    return _must(lambda value: value.strip() != "" and len(value) <= MOST_TEXT, f"words, at most {MOST_TEXT} letters")


def some_of(*names: str) -> Limit:
    """A tuple of these words."""

    def problem(value: tuple[str, ...]) -> str | None:
        other = next((word for word in value if word not in names), None)
        return None if other is None else f"{shown(other)} is not one of {', '.join(names)}"

    return Limit(problem, lambda: f"any of {', '.join(names)}")


def part(kind: str, in_context: bool = False) -> Limit:
    """A part of this kind, as `vdm.parts` reads it; `in_context` if it cannot be made without further arguments."""
    read = parts.read if in_context else parts.make
    names = partial(parts.names, kind)
    return Limit(partial(_problem, read, kind), lambda: ", ".join(names()), partial(_same_part, kind), names)


def source() -> Limit:
    """A source of data; any other name is taken for that of a TFDS data set, which is not checked here."""
    names = partial(parts.names, "source")
    return Limit(lambda value: None, lambda: f"{', '.join(names())} or a name of TFDS", words=names)


def parts_of(kind: str) -> Limit:
    """A tuple of parts of this kind."""

    def problem(value: tuple[str, ...]) -> str | None:
        found = ((text, _problem(parts.make, kind, text)) for text in value)
        return next((f"{shown(text)}: {problem}" for text, problem in found if problem), None)

    return Limit(problem, lambda: f"several of {', '.join(parts.names(kind))}")


def _problem(read: Callable[[str, str], Any], kind: str, text: str) -> str | None:
    try:
        read(kind, text)
    except parts.PartError as error:
        return error.problem + f"; usage: {error.usage}" * bool(error.usage)
    return None


def _same_part(kind: str, a: str, b: str) -> bool:
    try:
        return a == b or parts.canonical(kind, a) == parts.canonical(kind, b)
    except parts.PartError:
        return False


def _must(holds: Callable[[Any], bool], allowed: str) -> Limit:
    return Limit(lambda value: None if holds(value) else f"must be {allowed}", lambda: allowed)
