"""CHANGELOG.md and CONTRIBUTING.md of the repository as pages of the site."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGES = {"project/changelog.md": "CHANGELOG.md", "project/contributing.md": "CONTRIBUTING.md"}
"""File in the repository for each path in the site."""


def pages() -> dict[str, str]:
    """Return the Markdown of each page by path, with links into docs/ and to each other adapted to the site."""
    return {page: _linked((ROOT / file).read_text()) for page, file in PAGES.items()}


def _linked(markdown: str) -> str:
    for page, file in PAGES.items():
        markdown = markdown.replace(f"]({file}", f"]({Path(page).name}")
    return re.sub(r"\]\(docs/", "](../", markdown)
