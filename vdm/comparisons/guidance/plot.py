"""The figure of compare.py --by=guidance: every measure of the samples against the guidance scale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from vdm.comparisons.guidance.table import CAPTIONS, LABELS, NO_CAPTIONS, NO_LABELS, Measure, Row, families
from vdm.plots.axes import BLACK, BLUE, ERROR_BARS, GREEN, ORANGE, PURPLE, RED, SKY, annotate, save

COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
MARKERS = "osD^v<"


def plot(path: Path, measures: Mapping[str, Measure], rows: Sequence[Row]) -> None:
    """Plot one panel per measure; methods that differ only in scale form a line, starting unguided at scale 0.

    Dotted lines show the unconditional model; gray lines show the value of real images.
    """
    figure = Figure(figsize=(4.6 * len(measures), 4.4), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    unguided = next((row for row in rows if row.name in (LABELS, CAPTIONS)), None)
    without = next((row for row in rows if row.name in (NO_LABELS, NO_CAPTIONS)), None)
    for axes, (name, measure) in zip(panels, measures.items(), strict=True):
        factor = measure.factor
        for index, (family, members) in enumerate(families(rows).items()):
            points = [(0.0, unguided), *members] if unguided is not None and members[0][0] > 0 else members
            estimates = [row.estimates[name] for _, row in points]
            style: dict[str, Any] = {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}
            axes.errorbar(
                [scale for scale, _ in points],
                [factor * each.value for each in estimates],
                [factor * each.stderr for each in estimates],
                label=family,
                linewidth=1.4,
                markersize=4,
                **ERROR_BARS,
                **style,
            )
        if without is not None:
            value = factor * without.estimates[name].value
            axes.axhline(value, color=BLACK, linestyle=":", linewidth=1, label=without.name)
        axes.axhline(factor * measure.of_data, color="lightgrey", linewidth=4, zorder=0, label="real images")
        annotate(axes, measure.title, measure.heading, "scale w", legend=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    save(figure, path)
