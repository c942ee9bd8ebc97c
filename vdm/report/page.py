"""`page`: the HTML for one run or for several side by side. It is self-contained and fetches nothing."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from string import Template
from typing import Any

from vdm.report import charts, configs, curves, results, sections
from vdm.report.collect import Collected, as_json
from vdm.report.curves import Chart
from vdm.report.markup import Html, joined, tag

Commands = Mapping[str, str]
"""Command lines by what they do, e.g. "Train it again"."""


def page(runs: Sequence[Collected], commands: Sequence[Commands] = ()) -> str:
    """Return the report as one HTML document; `commands` has the command lines that reproduce each run."""
    drawn: list[Chart] = []
    if len({run.name for run in runs}) < len(runs):
        runs = [replace(run, label=f"{k}: {run.path}") for k, run in enumerate(runs, start=1)]

    def figures(found: list[Chart], wide: bool = False) -> Html | None:
        drawn.extend(found)
        return charts.figures(found, wide)

    one = len(runs) == 1
    of_logs = joined(figures(curves.bound(runs), wide=True), figures(curves.terms(runs)))
    by_time = figures(curves.over_time(runs))
    pictured = [sections.plots(run, named=not one) for run in runs if run.plots]
    contents: dict[str, tuple[str, Any]] = {
        "differences": ("Differences", None if one else configs.of_several(runs)),
        "samples": ("Samples", sections.samples(runs)),
        "curves": ("Loss", of_logs or None),
        "schedule": ("Schedule and time", joined(by_time, *pictured) or None),
        "training": ("Training", figures(curves.training(runs))),
        "evaluations": ("Evaluations", results.evaluations(runs)),
        "metrics": ("Metrics", joined(results.metrics(runs), figures(curves.quality(runs))) or None),
        "comparisons": ("Comparisons", sections.each(runs, results.comparisons)),
        "config": ("Configuration", configs.of_one(runs[0]) if one and runs[0].config else None),
        "reproduce": ("Reproduce", sections.commands(runs, commands)),
        "sessions": ("Sessions", sections.each(runs, sections.sessions)),
    }
    there = {name: (title, content) for name, (title, content) in contents.items() if content is not None}
    title = " · ".join(run.name for run in runs)
    scripts = [_asset(name) for name in ("uPlot.iife.min.js", "charts.js", "report.js")]
    filled = Template(_asset("report.html")).substitute(
        title=tag("title", f"{title} – vdm report"),
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        styles="\n".join(_asset(name) for name in ("uPlot.min.css", "report.css")),
        links=joined(*(tag("li", tag("a", title, href=f"#{name}")) for name, (title, _) in there.items())),
        summary=sections.summary(runs),
        sections=joined(*(_section(name, title, content) for name, (title, content) in there.items())),
        data=as_json({"charts": [chart.to_dict() for chart in drawn]}),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )
    return filled


def _section(name: str, title: str, content: Any) -> Html:
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, content, id=name, aria_labelledby=f"{name}-title")


def _asset(name: str) -> str:
    return files("vdm.report").joinpath("assets", name).read_text(encoding="utf-8").strip()


def _digest(script: str) -> str:
    """Return the hash by which the page's content security policy allows a script; no others may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
