"""Pages of the Python API, one for each public module of `vdm`, whose text mkdocstrings takes from the docstrings."""

import ast
import functools
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1] / "vdm"

INTERNAL = {
    "annotations", "comparisons", "errors", "export", "files", "guides_checks", "memory", "npz", "official",
    "programs", "progress", "reading", "safetensors", "speed", "verify",
}  # fmt: skip
"""Modules that are no API: the programs and what they are made of."""


def rooms() -> list[str]:
    """The modules and packages directly in `vdm` that have a page."""
    found = {
        path.stem
        for path in (*ROOT.glob("*.py"), *ROOT.glob("*/"))
        if (path.is_file() or (path / "__init__.py").is_file())
    }
    return sorted(name for name in found - INTERNAL if not name.startswith("_"))


@functools.cache
def pages() -> dict[str, tuple[str, str]]:
    """Title and Markdown of each page, by path."""
    made = {f"reference/api/{room}.md": (f"vdm.{room}", _page(room)) for room in rooms()}
    return {"reference/api/index.md": ("Python API", _index())} | made


def _index() -> str:
    lines = [f"| [`vdm.{room}`]({room}.md) | {summary(f'vdm.{room}')} |" for room in rooms()]
    return "\n".join(["# Python API", "", "| module | what it is |", "|---|---|", *lines, ""])


def _page(room: str) -> str:
    return f"---\ntitle: vdm.{room}\n---\n\n::: vdm.{room}\n    options: {{heading_level: 1}}\n"


def summary(module: str) -> str:
    """The first sentence of a module's docstring."""
    spec = importlib.util.find_spec(module)
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())
