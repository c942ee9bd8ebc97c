"""Lines of Markdown tables."""

from collections.abc import Sequence


def row(name: str, cells: Sequence[str]) -> str:
    """Return the line "| name | cell | … |"."""
    return f"| {name} | " + " | ".join(cells) + " |"


def head(title: str, columns: Sequence[str]) -> list[str]:
    """Return the header row and the separator line below it."""
    return [row(title, columns), "|---" * (len(columns) + 1) + "|"]
