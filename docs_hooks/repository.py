"""The repository's own pages, CHANGELOG.md and CONTRIBUTING.md, as pages of the site."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGES = {"project/changelog.md": "CHANGELOG.md", "project/contributing.md": "CONTRIBUTING.md"}
"""By path in the site, the file in the repository."""


def pages() -> dict[str, str]:
    """Markdown of each page by path, with links into docs/ and to each other as the site has them."""
    return {page: _linked((ROOT / file).read_text()) for page, file in PAGES.items()}


def _linked(markdown: str) -> str:
    for page, file in PAGES.items():
        markdown = markdown.replace(f"]({file}", f"]({Path(page).name}")
    return re.sub(r"\]\(docs/", "](../", markdown)
