"""Checks a built site in Chromium: `python -m docs_hooks.check_site FOLDER CHROMIUM`.

Every page is opened at the width of a phone, and one page of each kind also at that of a desktop, in light and dark
mode. A problem is a message in the console, a request to another server, a page that scrolls sideways or, on the pages
of each kind, a violation of axe's accessibility rules. If there are any, the exit status is 1.
"""

import argparse
import functools
import http.server
import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

WIDTHS = (400, 1600)
SCHEMES = ("light", "dark")
EXAMINED = ("", "learn/bound/", "howto/train/", "reference/commands/", "reference/api/bounds/", "results/", "404.html")
"""Pages that axe examines at all widths and in both modes; all others are of the same kinds."""


OF_THE_THEME = {"aria-dialog-name", "landmark-unique"}
"""Rules that the theme's own search box and menus violate."""


def main(argv: list[str] | None = None) -> int:
    """Print the problems and return the exit status."""
    parser = argparse.ArgumentParser("python -m docs_hooks.check_site")
    parser.add_argument("site", type=Path)
    parser.add_argument("chromium", help="the browser's executable")
    given = parser.parse_args(argv)
    with served(given.site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        found = 0
        for width, scheme in itertools.product(WIDTHS, SCHEMES):
            for problem in problems(browser, address, given.site, width, scheme):
                print(problem, flush=True)
                found += 1
    print(f"{given.site}: {found or 'no'} problems")
    return bool(found)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the folder on this machine and yield its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A request handler that logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing."""


def pages(site: Path) -> list[str]:
    """Return the path of every page in the site."""
    found = {path.relative_to(site).as_posix().removesuffix("index.html") for path in site.rglob("*.html")}
    return sorted(page for page in found if not page.startswith("assets/"))


def problems(browser: Browser, address: str, site: Path, width: int, scheme: str) -> Iterator[str]:
    """Yield a line for each problem at one width and in one color scheme."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page, said = context.new_page(), list[str]()
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((address, "data:", "blob:")) else said.append(f"asks for {request.url}")
        ),
    )
    everything = (width, scheme) == (WIDTHS[0], SCHEMES[0])
    for path in pages(site) if everything else EXAMINED:
        page.goto(address + path, wait_until="load", timeout=120_000)
        found, said[:] = [*said], []
        beyond = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if beyond > 0:
            found.append(f"scrolls sideways by {beyond} pixels")
        if path in EXAMINED:
            found += violations(page)
        yield from (f"{path or 'index'} ({width}, {scheme}): {problem}" for problem in found)
    context.close()


def violations(page: object) -> Iterator[str]:
    """Yield a line for each violation that axe finds on a page."""
    for rule in Axe().run(page).response["violations"]:
        if rule["id"] in OF_THE_THEME:
            continue
        where = "; ".join(" ".join(map(str, node["target"])) for node in rule["nodes"][:3])
        yield f"axe {rule['id']}: {rule['help']}: {where} ({len(rule['nodes'])} in all)"


if __name__ == "__main__":
    sys.exit(main())
