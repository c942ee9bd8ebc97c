"""Pieces of Markdown that several generators make."""

import re


def prose(text: str) -> str:
    r"""Plain text with what Markdown would take for markup escaped, outside of `code`.

    >>> print(prose("x*y of `a*b`"))
    x\*y of `a*b`
    """
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if i % 2 else re.sub(r"([*_<\[\]|~])", r"\\\1", part) for i, part in enumerate(parts))


def entry(term: str, *paragraphs: str) -> str:
    """A term and what it means, as an entry of a definition list."""
    meaning = "\n\n".join("    " + "\n    ".join(paragraph.splitlines()) for paragraph in paragraphs)
    return f"{term}\n:   {meaning.lstrip()}"


def listing(rows: list[tuple[str, str]]) -> str:
    """A list of terms with a line each."""
    return "\n".join(f"- {term}: {line}" for term, line in rows)
