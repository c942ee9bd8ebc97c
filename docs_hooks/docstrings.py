"""An extension of griffe, which reads the source: docstrings become Markdown, and shapes stay as they are written."""

import ast
import functools
import html
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import griffe

from docs_hooks.markup import prose

COMMAND = re.compile(r"(vdm|python|pip) ")
ENTRY = re.compile(r"[\w`.]+: ")


Target = Callable[[str], str | None]


def markdown(docstring: str, target: Target = lambda name: None) -> str:
    r"""Convert a docstring to Markdown: commands, doctests and indented blocks become code, all else is prose.

    `target` maps a name in backticks to what it links to, or to None.

    >>> print(markdown("x*y of `a*b`.\n\nvdm train"))
    x\*y of `a*b`.
    <BLANKLINE>
    ```sh
    vdm train
    ```
    """
    return "\n\n".join(_block(block, target) for block in _blocks(docstring))


def _blocks(text: str) -> Iterator[str]:
    """Split a text at blank lines, except within indented blocks and doctests, which may contain some."""
    block: list[str] = []
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text.strip("\n")):
        if (block and _kind(block[-1]) != _kind(paragraph)) or _kind(paragraph) == "prose":
            if block:
                yield "\n\n".join(block)
            block = []
        block.append(paragraph)
    yield "\n\n".join(block)


def _kind(paragraph: str) -> str:
    if paragraph.startswith("    "):
        return "indented"
    return "doctest" if paragraph.startswith(">>> ") else "prose"


def _block(block: str, target: Target) -> str:
    lines = block.splitlines()
    match _kind(block):
        case "indented":
            code = inspect.cleandoc(block)
            return f"```sh\n{code}\n```" if all(COMMAND.match(line) for line in code.splitlines()) else block
        case "doctest":
            return f"```pycon\n{block}\n```"
    if all(COMMAND.match(line) for line in lines):
        return f"```sh\n{block}\n```"
    if len(lines) > 1 and all(ENTRY.match(line) for line in lines):
        return "\n".join(f"- {_prose(line, target)}" for line in lines)
    # A doctest may directly follow its sentence.
    prose, arrow, doctest = block.partition("\n>>> ")
    return _prose(prose, target) + (f"\n\n```pycon\n>>> {doctest}\n```" if arrow else "")


def _prose(text: str, target: Target) -> str:
    return re.sub(r"`[^`]+`", lambda span: _code(span[0], target), prose(text))


def _code(span: str, target: Target) -> str:
    name = span.strip("`")
    path = target(name) if re.fullmatch(r"[A-Za-z_][\w.]*", name) else None
    if path is None:
        return span
    return f'<autoref identifier="{path}" optional><code>{html.escape(name)}</code></autoref>'


class Docstrings(griffe.Extension):
    """Rewrites docstrings once a package has been read, and keeps annotations as they are written."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Convert all docstrings by `markdown`."""
        for thing in _all(pkg):
            if thing.docstring is not None:
                text = inspect.cleandoc(thing.docstring.value)
                thing.docstring.value = markdown(text, functools.partial(_target, thing))

    def on_function_instance(self, *, node: Any, func: griffe.Function, **_: Any) -> None:
        """Keep shapes such as "batch *data", which griffe would read as a product."""
        if not isinstance(node, ast.FunctionDef):
            return
        arguments = node.args
        written = {each.arg: each for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        for parameter in func.parameters:
            if (argument := written.get(parameter.name)) and argument.annotation:
                parameter.annotation = _annotation(argument.annotation, func.parent)
        if node.returns:
            func.returns = _annotation(node.returns, func.parent)

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Do the same for the fields of a class."""
        if isinstance(node, ast.AnnAssign):
            attr.annotation = _annotation(node.annotation, attr.parent)


def _target(thing: griffe.Object, name: str) -> str | None:
    """Resolve a name in a docstring of `thing` to a dotted name; None unless it belongs to this package."""
    try:
        path = name if name.startswith("vdm.") else thing.resolve(name)
    except griffe.NameResolutionError:
        return None
    return path if path.startswith("vdm.") else None


def _annotation(node: ast.expr, parent: Any) -> Any:
    """Return an annotation as written, without jaxtyping's leading spaces and the quotes of forward references."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return griffe.get_expression(node, parent, parse_strings=True)
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            each.value = each.value.strip()
    return griffe.get_expression(node, parent, parse_strings=False)


def _all(thing: griffe.Object) -> Iterator[griffe.Object]:
    yield thing
    for member in thing.members.values():
        if not member.is_alias:
            yield from _all(member)  # type: ignore[arg-type]
