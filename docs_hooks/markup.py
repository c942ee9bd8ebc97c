"""Pieces of Markdown that several generators use."""

import re


def prose(text: str) -> str:
    r"""Escape everything in a plain text, outside of `code`, that Markdown would take for markup.

    >>> print(prose("x*y of `a*b`, 0 < t, z ~ N(0, I)"))
    x\*y of `a*b`, 0 &lt; t, z ~ N(0, I)
    """
    parts = re.split(r"(`[^`]+`)", text)
    parts[::2] = [re.sub(r"([*_\[\]|])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)


def entry(term: str, *paragraphs: str) -> str:
    """Format a term and its meaning as an entry of a definition list."""
    meaning = "\n\n".join("    " + "\n    ".join(paragraph.splitlines()) for paragraph in paragraphs)
    return f"{term}\n:   {meaning.lstrip()}"


def listing(rows: list[tuple[str, str]]) -> str:
    """Format a list of terms with one line each."""
    return "\n".join(f"- {term}: {line}" for term, line in rows)
