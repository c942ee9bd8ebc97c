"""Conversion of values from text, JSON or Python to the annotated types of constructors and config fields."""

import contextlib
import types
import typing
from collections.abc import Sequence
from typing import Any

WORDS = {
    float: "a number", int: "a whole number", bool: "True or False", str: "a string", types.NoneType: "None",
    dict: "a table", list: "a list",
}  # fmt: skip


def convert(value: Any, annotation: Any) -> Any:
    """Convert `value` to the annotation: an int to a float, a list to a tuple. Raises ValueError for any other type.

    Annotations that are not classes, such as type variables, or that cannot be checked, accept any value.
    """
    of = kinds(annotation)
    if type(value) is int and float in of:
        return _float(value)
    for kind in of:
        origin = typing.get_origin(kind) or kind
        if origin is tuple and isinstance(value, tuple | list):
            with contextlib.suppress(ValueError):
                return _tuple(value, typing.get_args(kind) or (Any, ...))
        elif origin is typing.Literal:
            if any(same(value, choice) for choice in typing.get_args(kind)):
                return value
        elif _is_one(value, origin):
            return value
    raise ValueError(f"must be {describe(annotation)}")


def kinds(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type. JAX's `ArrayLike` counts as a number: texts have no arrays."""
    is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    found: tuple[Any, ...] = typing.get_args(annotation) if is_union else (annotation,)
    if complex in found:
        return (float, *(kind for kind in found if kind is types.NoneType))
    return found


def takes_none(annotation: Any) -> bool:
    """Return whether None is an allowed value."""
    return types.NoneType in kinds(annotation)


def describe(annotation: Any) -> str:
    """Describe the values that an annotation allows, e.g. "a number or None"."""
    found = []
    for kind in kinds(annotation):
        of = typing.get_args(kind)
        if typing.get_origin(kind) is tuple:
            each = [describe(member) for member in of if member is not ...]
            found.append(f"a tuple, each {each[0]}" if of[-1] is ... else f"a tuple of {', '.join(each)}")
        elif typing.get_origin(kind) is typing.Literal:
            found += [repr(choice) for choice in of]
        else:
            found.append(WORDS.get(typing.get_origin(kind) or kind) or f"a {getattr(kind, '__name__', kind)}")
    return " or ".join(found)


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal and of the same type: 1, True and 1.0 are three different values."""
    return type(a) is type(b) and (a == b or repr(a) == repr(b))


def _is_one(value: Any, kind: Any) -> bool:
    if kind is Any or not isinstance(kind, type):
        return True
    if isinstance(value, bool) and kind in (int, float):
        return False
    try:
        return isinstance(value, kind)
    except TypeError:
        return True


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("must be a number within the range of a float") from None


def _tuple(values: Sequence[Any], of: tuple[Any, ...]) -> tuple[Any, ...]:
    of = of[:1] * len(values) if of[-1] is ... else of
    return tuple(convert(value, each) for value, each in zip(values, of, strict=True))
