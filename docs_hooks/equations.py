"""The index of equations: which function implements which equation, according to the docstrings."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from docs_hooks import api, citations, numbering
from docs_hooks.citations import SPECIFICATION, Citation

PACKAGE = Path(__file__).parents[1] / "vdm"
KINGMA = "Kingma et al. (2021)"
_SUBSCRIPT = re.compile(r"_(?:\{([^}]*)\}|([A-Za-z0-9θ∞]+))")
CHAPTERS = {
    "3": "§3: variational diffusion models",
    "4": "§4: understanding diffusion objectives",
    "A": "Appendix A",
    "2": "§2: latent variable models",
}


def equations() -> str:
    """Return the page's tables as Markdown."""
    by_document: dict[str, dict[str, list[Citation]]] = defaultdict(lambda: defaultdict(list))
    for citation in citations.of_package(PACKAGE):
        by_document[citation.document][citation.number].append(citation)
    ours, theirs = by_document.pop(SPECIFICATION), by_document.pop(KINGMA)
    lines = [f"## {SPECIFICATION}", ""]
    for chapter, title in CHAPTERS.items():
        cited = sorted((number for number in ours if _chapter(number) == chapter), key=_order)
        lines += [f"### {title}", "", *_table(cited, numbering.MEANINGS, ours), ""]
    lines += ["### Equations that are not functions", "", *_not_functions(), ""]
    meanings = {str(number): meaning for number, meaning in numbering.KINGMA.items()}
    lines += [f"## {KINGMA}", "", *_table(sorted(theirs, key=int), meanings, theirs), ""]
    lines += [f"Not a function: Eq. {number} ({why})." for number, why in numbering.KINGMA_NOT_FUNCTIONS.items()]
    return "\n".join([*lines, "", "## Other papers", "", *_others(by_document), ""])


def _table(numbers: Iterable[str], meanings: dict[str, str], cited: dict[str, list[Citation]]) -> list[str]:
    head = ["| Equation | What it is | Where |", "|---|---|---|"]
    return head + [f"| {_mark(n, cited[n])} | {_cell(meanings[n])} | {_links(cited[n])} |" for n in numbers]


def _mark(number: str, found: list[Citation]) -> str:
    return f"{number}, corrected" if any(citation.corrected for citation in found) else number


def _links(found: list[Citation]) -> str:
    return ", ".join(dict.fromkeys(link(citation.where) for citation in found))


def link(where: str) -> str:
    """Return the name, linked to its documentation if it is public and in a public module."""
    parts = [part for part in where.split(".") if not (part.startswith("__") and part.endswith("__"))]
    name = ".".join(parts)
    public = parts[1] not in api.INTERNAL and not any(part.startswith("_") for part in parts)
    short = name.removeprefix("vdm.")
    return f"[`{short}`][{name}]" if public else f"`{short}`"


def _not_functions() -> list[str]:
    rows = [
        f"| {first}{'' if first == last else f'–{last}'} | {_cell(why)} |"
        for first, last, why in numbering.NOT_FUNCTIONS
    ]
    return ["| Equations | Why |", "|---|---|", *rows]


def _others(by_document: dict[str, dict[str, list[Citation]]]) -> list[str]:
    rows = [
        f"| {document}, Eq. {_mark(number, found)} | {_links(found)} |"
        for document, cited in sorted(by_document.items())
        for number, found in sorted(cited.items(), key=lambda item: _order(item[0]))
    ]
    return ["| Equation | Where |", "|---|---|", *rows]


def _chapter(number: str) -> str:
    return number.removeprefix("Table ").partition(".")[0]


def _order(number: str) -> tuple[bool, int, int]:
    """Return a sort key that orders equations by number, with tables after them."""
    chapter, _, index = number.removeprefix("Table ").rpartition(".")
    return number.startswith("Table"), 0 if chapter in ("", "A") else int(chapter), int(index)


def _cell(text: str) -> str:
    """Format text for a table: subscripts, written as in z_t or z_{t−1}, become HTML; code stays as it is.

    >>> _cell("q(z_{t−1}|x), `loss_space`")
    'q(z<sub>t−1</sub>\\\\|x), `loss_space`'
    """
    pieces = text.split("`")
    pieces[::2] = [_SUBSCRIPT.sub(lambda found: f"<sub>{found[1] or found[2]}</sub>", piece) for piece in pieces[::2]]
    return "`".join(pieces).replace("|", "\\|")
