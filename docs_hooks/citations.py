"""The equations that the docstrings of a package cite, read from its source.

There are three forms. Each may list several numbers (`Eq. 3.14 and 3.22`, `Eq. 12–16`, `Eq. 3.104, corrected`):

    Eq. 3.32 of De Sousa Ribeiro & Glocker (2024)      the document after the number
    Kingma et al. (2021), Eq. 12                        the document before it, as in (Kingma et al. 2021, Eq. 12)
    Eq. 3.32                                            De Sousa Ribeiro & Glocker, if the docstring or that of its
                                                        module names them
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SPECIFICATION = "De Sousa Ribeiro & Glocker (2024)"

_NUMBER = r"(?:A|\d+)\.\d+|\d+"
_NUMBERS = rf"(?:{_NUMBER})(?:(?:, | and |–|-)(?:{_NUMBER})(?![\w.]*\)? ?et al))*"
_NAME = r"[A-Z][\w-]+"
_AUTHORS = rf"(?:De Sousa Ribeiro & Glocker|{_NAME} et al\.|(?:{_NAME}, )*{_NAME} & {_NAME}|{_NAME})"
CITATION = re.compile(
    rf"(?:(?P<before>{_AUTHORS})(?:,? \(?(?P<year_before>\d{{4}})\)?)?, (?:App\. )?)?"
    rf"\bEqs?\. (?P<numbers>{_NUMBERS})(?P<corrected>, corrected\b)?"
    rf"(?: of (?P<after>{_AUTHORS})(?: \((?P<year_after>\d{{4}})\))?(?P<corrected_after>, corrected\b)?)?"
)
_TABLE = re.compile(r"\bTable ([3-4]\.\d)(?: of De Sousa Ribeiro & Glocker \(2024\))?(?P<corrected>, corrected\b)?")


class Citation(NamedTuple):
    """A citation of one equation by one docstring."""

    document: str
    """The cited document, as in `De Sousa Ribeiro & Glocker (2024)`; without the year if the docstring omits it."""
    number: str
    """The number, as in `3.32`, `A.21` or `12`, or `Table 4.2` for a table of the specification."""
    corrected: bool
    """Whether the docstring says that the code corrects the equation."""
    where: str
    """The full name of the function, class or module that the docstring belongs to."""


class Docstring(NamedTuple):
    """A docstring on one line, with the full name of its owner and the docstring of the module."""

    where: str
    text: str
    module: str


def of_package(folder: Path) -> list[Citation]:
    """Return all citations in docstrings of the Python files below `folder`, in the order of the files' names.

    Raises ValueError for a number without a document if neither the docstring nor its module names one.
    """
    return [citation for docstring in docstrings(folder) for citation in of_text(docstring)]


def of_text(docstring: Docstring) -> Iterator[Citation]:
    """Yield the citations in one docstring. Raises ValueError as `of_package` does."""
    where, text, module = docstring
    named = "De Sousa Ribeiro & Glocker" in text or "De Sousa Ribeiro & Glocker" in module
    for match in CITATION.finditer(text):
        authors = match["before"] or match["after"]
        year = match["year_before"] or match["year_after"]
        if authors is None and not named:
            raise ValueError(f"{where}: {match[0]!r} is of no document: must name it, or its module must")
        document = SPECIFICATION if authors is None else f"{authors} ({year})" if year else authors
        if document == "De Sousa Ribeiro & Glocker":
            document = SPECIFICATION
        for number in spelled_out(match["numbers"]):
            yield Citation(document, number, bool(match["corrected"] or match["corrected_after"]), where)
    if named:
        for match in _TABLE.finditer(text):
            yield Citation(SPECIFICATION, f"Table {match[1]}", bool(match["corrected"]), where)


def spelled_out(numbers: str) -> list[str]:
    """Expand a list of numbers with ranges.

    >>> spelled_out("3.14 and 3.22"), spelled_out("12–14"), spelled_out("4.63–4.65")
    (['3.14', '3.22'], ['12', '13', '14'], ['4.63', '4.64', '4.65'])
    """
    found = []
    for part in re.split(r", | and ", numbers):
        first, *last = re.split("[–-]", part)
        chapter, _, start = first.rpartition(".")
        stop = last[0].rpartition(".")[2] if last else start
        found += [f"{chapter}.{k}" if chapter else str(k) for k in range(int(start), int(stop) + 1)]
    return found


def docstrings(folder: Path) -> Iterator[Docstring]:
    """Yield the docstrings of modules, classes, functions and attributes; inner functions count as their function."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = _flat(ast.get_docstring(tree) or "")
        yield Docstring(name, module, module)
        yield from (Docstring(where, _flat(text), module) for where, text in _inside(tree, name, outermost=True))


def _inside(node: ast.AST, name: str, outermost: bool) -> Iterator[tuple[str, str]]:
    body = getattr(node, "body", [])
    for child, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            own = f"{name}.{child.name}" if outermost or isinstance(node, ast.ClassDef) else name
            yield own, ast.get_docstring(child) or ""
            yield from _inside(child, own, outermost=False)
        elif isinstance(child, ast.Assign | ast.AnnAssign) and _is_text(following):
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            yield f"{name}.{ast.unparse(target)}", following.value.value


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _flat(text: str) -> str:
    return " ".join(text.split())
