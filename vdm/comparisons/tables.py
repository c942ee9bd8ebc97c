"""Markdown tables, line by line."""

from collections.abc import Sequence


def row(name: str, cells: Sequence[str]) -> str:
    """| name | cell | … |"""
    return f"| {name} | " + " | ".join(cells) + " |"


def head(title: str, columns: Sequence[str]) -> list[str]:
    """The row of titles and the line below it."""
    return [row(title, columns), "|---" * (len(columns) + 1) + "|"]
