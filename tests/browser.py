"""Pages as headless Chromium shows them: errors in the console, requests, accessibility by axe.

Without Chromium or playwright, tests are skipped with the reason; with VDM_BROWSER=required in the environment, as in
CI, they fail.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (400, 1600)
SCHEMES = ("light", "dark")


class Shown(NamedTuple):
    """A page that is open."""

    page: Any
    """Playwright's."""
    errors: list[str]
    """Errors and warnings in the console, and exceptions."""
    requests: list[str]
    """What was asked of any server."""


@contextmanager
def page(path: Path, width: int = 1600, scheme: str = "light", height: int = 1000, **context: Any) -> Iterator[Shown]:
    """A file, shown from file:// in a window of this width; `context` is more of Playwright's `new_context`."""
    playwright = _needed("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        try:
            settings = {"viewport": {"width": width, "height": height}, "color_scheme": scheme} | context
            opened = browser.new_context(**settings).new_page()
            shown = Shown(opened, [], [])
            opened.on("console", lambda said: said.type in ("error", "warning") and shown.errors.append(said.text))
            opened.on("pageerror", lambda error: shown.errors.append(str(error)))
            opened.on("request", lambda request: _is_asked(request.url) and shown.requests.append(request.url))
            opened.goto(path.resolve().as_uri())
            yield shown
        finally:
            browser.close()


def executable() -> str:
    """Chromium on this machine, or the test is skipped."""
    found = os.environ.get("VDM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    return found or _absent(f"no Chromium: none of {', '.join(NAMES)} is on the PATH, and VDM_CHROMIUM names none")


def violations(shown: Shown) -> list[str]:
    """What axe finds wrong: a line for each element."""
    axe = _needed("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(shown.page).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def overflow(shown: Shown) -> int:
    """Pixels that the page is wider than its window."""
    width: int = shown.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


def _is_asked(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def _needed(module: str) -> Any:
    try:
        return __import__(module, fromlist=["*"])
    except ImportError as error:
        return _absent(f"no {error.name}: pip install '.[dev]'")


def _absent(reason: str) -> Any:
    if os.environ.get("VDM_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
