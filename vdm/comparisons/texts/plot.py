"""The figure of compare.py --by=text: the share of samples that match their captions, by attribute and guidance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vdm.comparisons.texts.table import HELD_OUT, TEST, Row, attributes
from vdm.plots.axes import BLACK, BLUE, ERROR_BARS, GREEN, ORANGE, PURPLE, RED, SKY, annotate, save

COLORS = (BLACK, BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
MARKERS = "osD^v<"
"""Markers; the next one is used each time the colors repeat."""


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Plot one panel per kind of captions: for each attribute, one point per guidance method, with standard errors."""
    there = [asked for asked in (TEST, HELD_OUT) if any(asked in row.estimates for row in rows)]
    figure = Figure(figsize=(7.5 * len(there), 4.6), layout="constrained")
    panels = figure.subplots(1, len(there), squeeze=False, sharey=True)[0]
    shifts = np.linspace(-0.3, 0.3, len(rows))
    for axes, asked in zip(panels, there, strict=True):
        names = attributes(rows, asked)
        for k, row in enumerate(rows):
            places = [place for place, name in enumerate(names) if name in row.estimates.get(asked, {})]
            found = [row.estimates[asked][names[place]] for place in places]
            axes.errorbar(
                np.asarray(places) + shifts[k],
                [each.value for each in found],
                [each.stderr for each in found],
                linestyle="",
                marker=MARKERS[k // len(COLORS) % len(MARKERS)],
                color=COLORS[k % len(COLORS)],
                markersize=5,
                label=row.name,
                **ERROR_BARS,
            )
        axes.set_xticks(range(len(names)), names)
        annotate(axes, asked, "samples that are as asked, %", "", legend=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    save(figure, path)
