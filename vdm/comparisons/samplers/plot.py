"""The figure of compare.py --by=sampler: sample quality against network calls."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.comparisons.samplers.table import Measured, by_sampler
from vdm.plots.axes import (
    BLACK,
    BLUE,
    ERROR_BARS,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    PlainLogFormatter,
    annotate,
    log_y,
    save,
)

# The grids of one sampler share its color.
COLORS = (BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE, "grey", "#8B4513", "#F0E442")
GRID_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^v<>Ph*"


def plot(path: Path, several: Sequence[Measured]) -> None:
    """Plot one panel per metric against network calls, with one line per sampler and standard errors.

    The axis of network calls is logarithmic, as is that of a distance, but not that of a score. The noise floor of a
    distance is a gray band, and outcomes below a third of it are triangles at the lower edge; that of a score is a gray
    line. The dotted line is the reference.
    """
    figure = Figure(figsize=(10, 5.6 * len(several)), layout="constrained")
    panels = figure.subplots(len(several), squeeze=False)[:, 0]
    for axes, measured in zip(panels, several, strict=True):
        _panel(axes, measured)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    save(figure, path)


def _panel(axes: Axes, measured: Measured) -> None:
    metric, floor, outcomes, reference = measured
    axes.set_xscale("log")
    lowest = -np.inf
    if metric.lower_is_better:
        lowest = floor / 3
        log_y(axes)
        axes.set_ylim(lowest, 2 * max(floor, *(o.estimate.value for o in outcomes)))
    colors: dict[str, int] = {}
    grids: dict[str, int] = {"": 0}
    for text, members in by_sampler(outcomes).items():
        sampler, _, grid = text.partition("@")
        index, style_of_grid = colors.setdefault(sampler, len(colors)), grids.setdefault(grid, len(grids))
        style: dict[str, Any] = {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}
        style |= {"linestyle": GRID_STYLES[style_of_grid % len(GRID_STYLES)], "label": text}
        style |= {"linewidth": 1.4, "markersize": 4, **ERROR_BARS}
        calls, values = np.array([o.calls for o in members]), np.array([o.estimate.value for o in members])
        seen = values > lowest
        axes.errorbar(calls, np.where(seen, values, np.nan), [o.estimate.stderr for o in members], **style)
        if not seen.all():
            place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            axes.plot(calls[~seen], np.full((~seen).sum(), 0.01), "v", color=style["color"], **place)
    if metric.lower_is_better:
        axes.axhspan(0, floor, color="lightgrey", zorder=0, label=metric.floor)
    else:
        axes.axhline(floor, color="lightgrey", linewidth=4, zorder=0, label=metric.floor)
    if reference is not None:
        name = f"{reference.sampler}, {reference.calls} calls"
        axes.axhline(reference.estimate.value, color=BLACK, linestyle=":", linewidth=1, label=name)
    ticks = sorted({o.calls for o in outcomes})
    # Numbers of calls that are nearly equal share a tick.
    ticks = [n for n, after in zip(ticks, [*ticks[1:], np.inf], strict=True) if after > 1.3 * n]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.xaxis.set_minor_formatter(PlainLogFormatter(labelOnlyBase=True))
    axes.set_xticks([], minor=True)
    title = f"{metric.title} from training images" if metric.lower_is_better else metric.title
    unit = f", {metric.unit}" if metric.unit else ""
    annotate(axes, "Quality of samples", title + unit, "network calls per image", legend=False)
