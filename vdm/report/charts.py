"""Charts of a page: charts.js draws them, and a table holds the same data."""

from collections.abc import Sequence
from typing import Any

from vdm.report.curves import STEP, Chart, Series
from vdm.report.markup import Html, details, table, tag
from vdm.report.numbers import brief, with_error

MOST_ROWS = 40
"""Maximum number of rows in a chart's table; longer curves are subsampled evenly."""


def figures(charts: Sequence[Chart], wide: bool = False) -> Html | None:
    """Return a grid of charts, or None if there are none."""
    shown = [figure(chart) for chart in charts]
    return tag("div", *shown, class_="charts wide" if wide else "charts") if shown else None


def figure(chart: Chart) -> Html:
    """Return a chart: a title, an element for charts.js to draw in, and the table of its data."""
    unit = f" in {chart.unit}" if chart.unit else ""
    said = "; ".join(filter(None, (_last(series) for series in chart.series)))
    label = f"{chart.title}{unit} by {chart.x}. {said}."
    keys = "Arrow keys move the cursor, plus and minus zoom, 0 shows all."
    return tag(
        "figure",
        tag("figcaption", tag("h3", chart.title), tag("span", chart.unit, class_="unit") if chart.unit else None),
        tag("div", class_="chart", data_chart=chart.name, role="group", aria_roledescription="line chart",
            aria_label=f"{label} {keys}", tabindex="0"),
        details("Data as a table", *(_table(chart, series) for series in chart.series if series.x)),
        class_="card",
    )  # fmt: skip


def _last(series: Series) -> str:
    """Return the name and last value of a curve."""
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
    return f"{series.name} {brief(points[-1][1])}" if points and series.style not in ("faint", "dashed") else ""


def _table(chart: Chart, series: Series) -> Html:
    errors: Sequence[Any] = series.error or [None] * len(series.x)
    points = list(zip(series.x, series.y, errors, strict=True))
    every = -(-len(points) // MOST_ROWS)
    rows: list[list[Any]] = [[brief(x), with_error(y, error)] for x, y, error in points[::every]]
    label = series.name + (f" (every {every}th point)" if every > 1 else "")
    return table(f"{chart.title}: {label}", [STEP if chart.x == STEP else "t", label], rows, (0, 1))
