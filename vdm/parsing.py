"""Reading a config's string as a call of one of several constructors: "name", "name(2)", "name(2, k=3)"."""

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def number(literal: Any) -> float:
    """An int, a float, or the words inf and nan as a float. Raises ValueError for anything else."""
    if type(literal) not in (int, float) and literal not in ("inf", "nan"):
        raise ValueError(f"{literal!r} is not a number")
    return float(literal)


def call(text: str, constructors: Mapping[str, Callable[..., T]], what: str, value: Callable[[Any], Any] = number) -> T:
    """What the constructor named in `text` returns for the numbers in `text`; `what` names the text in errors.

    Every parameter is a Python literal or a bare word, which is a string, put through `value`. Raises ValueError for an
    unknown name, with the valid ones, and for parameters it does not take, with those it does.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        parsed = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        positional = [value(_literal(each)) for each in parsed.args]
        named = {keyword.arg or "**": value(_literal(keyword.value)) for keyword in parsed.keywords}
        if len(named) < len(parsed.keywords):
            raise SyntaxError("keyword argument repeated")
    except (SyntaxError, TypeError, ValueError, OverflowError):
        example = next(iter(constructors))
        raise ValueError(
            f"{what}={text!r}: must be a name such as {example}, or a name with numbers: name(2)"
        ) from None
    name = parsed.func.id if isinstance(parsed.func, ast.Name) else ""
    if name not in constructors:
        raise ValueError(f"{what}={text!r}: must be one of {', '.join(constructors)}")
    try:
        return constructors[name](*positional, **named)
    except (TypeError, ValueError) as error:
        parameters = inspect.signature(constructors[name]).parameters.values()
        takes = ", ".join(f"{p.name}={p.default}" for p in parameters)
        raise ValueError(f"{what}={text!r}: {error}; it is {name}({takes})") from None


def _literal(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
