"""The report of a run: a single HTML file, made from the run's folder, that needs no server and no network.

`collect` reads a folder, and `page` makes the HTML for one run or for several side by side:

    from pathlib import Path
    from vdm.report import collect, page

    Path("report.html").write_text(page([collect(Path("runs/digits"))]), encoding="utf-8")
"""

from vdm.report.collect import Collected, collect
from vdm.report.page import page

__all__ = ["Collected", "collect", "page"]
