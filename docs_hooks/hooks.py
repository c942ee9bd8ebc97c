"""What mkdocs calls while it builds the site: pages made from the code, and `<!-- generated: NAME -->` filled in."""

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
"""The line of a page that a generator's Markdown takes the place of."""

CELL = re.compile(r"<td.*?</td>", re.DOTALL)
"""A cell of a table."""


def on_config(config: Any) -> Any:
    """Puts the generated pages into the nav, each group after the `index.md` that the nav has of it."""
    for source in (api.pages(), examples.pages()):
        for folder in {Path(path).parent for path in source}:
            _section(config.nav, f"{folder}/index.md").extend(
                {title: path} for path, (title, _) in source.items() if path != f"{folder}/index.md"
            )
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages."""
    pages = {path: text for source in (api.pages(), examples.pages()) for path, (_, text) in source.items()}
    for path, text in (repository.pages() | pages).items():
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, content=text))
    for path, content in examples.files().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills in what the code says. KeyError for a name that no generator has."""
    return GENERATED.sub(lambda found: GENERATORS[found[1]](), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Mathematics as MathML; in tables, a number stays on one line with its error."""
    return CELL.sub(lambda found: found[0].replace(" ± ", "\u00a0±\u00a0"), mathematics.rendered(html))


def _section(nav: Any, index: str) -> list[Any]:
    """The list of the nav that begins with this page."""
    for item in nav:
        for children in item.values() if isinstance(item, dict) else ():
            if isinstance(children, list):
                if children[0] == index:
                    return children
                if found := _section(children, index):
                    return found
    return []
