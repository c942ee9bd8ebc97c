"""The report of a run: one HTML file that needs no server and no network, made of what is in the run's folder.

`collect` reads a folder, and `page` makes the HTML of one run or of several side by side:

    from pathlib import Path
    from vdm.report import collect, page

    Path("report.html").write_text(page([collect(Path("runs/digits"))]), encoding="utf-8")
"""

from vdm.report.collect import Collected, collect
from vdm.report.page import page

__all__ = ["Collected", "collect", "page"]
