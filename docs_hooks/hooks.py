"""Hooks that mkdocs calls while it builds the site: they add generated pages and fill in generated content."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # mkdocs imports a hook by its file, not as part of a package

from mkdocs.structure.files import File, Files  # noqa: E402

from docs_hooks import api, examples, mathematics, repository  # noqa: E402
from docs_hooks.generators import GENERATORS  # noqa: E402

GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
"""A line of a page that is replaced with a generator's Markdown."""

CELL = re.compile(r"<td.*?</td>", re.DOTALL)
"""A cell of a table."""


def on_config(config: Any) -> Any:
    """Add the generated pages to the nav, each group after its `index.md`."""
    for source in (api.pages(), examples.pages()):
        for folder in {Path(path).parent for path in source}:
            _section(config.nav, f"{folder}/index.md").extend(
                {title: path} for path, (title, _) in source.items() if path != f"{folder}/index.md"
            )
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {path: text for source in (api.pages(), examples.pages()) for path, (_, text) in source.items()}
    for path, text in (repository.pages() | pages).items():
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, content=text))
    for path, content in examples.files().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in generated content. Raises KeyError for the name of an unknown generator."""
    return GENERATED.sub(lambda found: GENERATORS[found[1]](), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Convert mathematics to MathML and, in tables, keep a number and its error on one line."""
    return CELL.sub(lambda found: found[0].replace(" ± ", "\u00a0±\u00a0"), mathematics.rendered(html))


def _section(nav: Any, index: str) -> list[Any]:
    """Return the list of the nav that starts with this page."""
    for item in nav:
        for children in item.values() if isinstance(item, dict) else ():
            if isinstance(children, list):
                if children[0] == index:
                    return children
                if found := _section(children, index):
                    return found
    return []
