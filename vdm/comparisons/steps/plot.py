"""The figure of compare.py --by=steps: bits/dim against the number of time steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from vdm.comparisons.steps.table import Mean, Row
from vdm.plots.axes import BLUE, ERROR_BARS, RED, annotate, log_y, save

TIME_STEPS = "number of time steps T"


def plot(path: Path, own: Sequence[Row], infinite: Sequence[Row]) -> None:
    """Plot bits/dim against the number of time steps T, the excess over T = ∞, and the gain from training at T.

    The arguments are those returned by `table.rows`. Left: bits/dim, with ∞ set apart as the last tick. Middle: the
    excess over models trained and evaluated at ∞, on log axes, with a line that falls as 1/T; an excess ≤ 0 is a
    triangle at the lower edge. Right: where both were measured, how far models trained at T are below those trained at
    ∞ and evaluated at the same T. Error bars are standard errors, over seeds if there are several.
    """
    gains = [row for row in own if row.gain is not None]
    steps = sorted({row.evaluated for row in (*own, *infinite) if row.evaluated is not None})
    figure = Figure(figsize=(12 if not gains else 16, 4.8), layout="constrained")
    left, middle, *right = figure.subplots(1, 3 if gains else 2)
    errors = f"error bars over {infinite[-1].stderr_over}"
    infinity = 4 * max(steps, default=1)
    _steps_axis(left, steps, infinity)
    _steps_axis(middle, steps)
    log_y(middle)
    positive: list[tuple[float, int]] = []
    for series, color, marker, size, label in (
        # One hollow and one small, since the series may coincide.
        (infinite, BLUE, "o", 6, "trained at ∞, evaluated at T"),
        (own, RED, "s", 3, "trained and evaluated at T"),
    ):
        style = {**ERROR_BARS, "color": color, "marker": marker, "markersize": size, "linewidth": 1.2, "label": label}
        style |= {"markerfacecolor": "none"} if size > 3 else {}
        *before, last = series
        _errorbar(left, [row.evaluated for row in before], [row.bits_per_dim for row in before], style)
        # Drawn separately, so that no line crosses the break of the axis.
        _errorbar(left, [infinity], [last.bits_per_dim], style | {"label": None if before else label})
        finite = [(row.evaluated, row.excess) for row in before if row.evaluated is not None]
        above = [(T, excess) for T, excess in finite if excess.value > 0]
        _errorbar(middle, [T for T, _ in above], [excess for _, excess in above], style)
        if under := [T for T, excess in finite if excess.value <= 0]:
            at_the_edge = {"transform": middle.get_xaxis_transform(), "color": color, "label": "excess ≤ 0"}
            middle.plot(under, np.full(len(under), 0.02), "v", **at_the_edge)
        positive += [(excess.value, T) for T, excess in above]
    if positive:
        highest, at = max(positive)
        middle.plot(steps, highest * at / np.array(steps), color="grey", linestyle="--", label="falls as 1/T")
        middle.set_ylim(min(positive)[0] / 2, highest * 2)
    best = infinite[-1].bits_per_dim.value
    annotate(left, f"Bits/dim by number of time steps ({errors})", "bits/dim", TIME_STEPS)
    annotate(middle, f"Excess over trained and evaluated at ∞ ({best:.3f})", "excess in bits/dim", TIME_STEPS)
    for axes in right:
        _steps_axis(axes, [row.evaluated for row in gains if row.evaluated is not None])
        axes.axhline(0, color="black", linewidth=0.8)
        style = {
            **ERROR_BARS,
            "color": RED,
            "marker": "s",
            "markersize": 3,
            "label": "above 0: training at T is better",
        }
        _errorbar(axes, [row.evaluated for row in gains], [row.gain for row in gains if row.gain is not None], style)
        # Linear within twice the largest error: gains at few steps are a hundred times larger than at many.
        axes.set_yscale("symlog", linthresh=max(2 * max(row.gain.stderr or 0 for row in gains if row.gain), 1e-6))
        annotate(axes, "Trained at T below trained at ∞, both at T", "bits/dim, linear about 0", TIME_STEPS)
    save(figure, path)


def _errorbar(axes: Axes, x: Sequence[int | None], means: Sequence[Mean], style: dict[str, Any]) -> None:
    errors = np.array([mean.stderr for mean in means], float)  # None becomes NaN: no error bar
    axes.errorbar(np.array(x, float), [mean.value for mean in means], errors, **style)


def _steps_axis(axes: Axes, steps: Sequence[int], infinity: int | None = None) -> None:
    """Set a log axis with a tick at each number of steps only, and ∞ set apart at the position `infinity`."""
    axes.set_xscale("log")
    if infinity is None:
        axes.set_xticks(steps, [str(T) for T in steps])
    else:
        axes.set_xticks([*steps, infinity], [*map(str, steps), "∞"])
    if infinity is not None and steps:
        # Two strokes through the axis, above and below: a break.
        for inches in (-0.04, 0.04):
            place = axes.get_xaxis_transform() + ScaledTranslation(inches, 0, axes.figure.dpi_scale_trans)
            stroke: dict[str, Any] = {"marker": [(-1, -2), (1, 2)], "markersize": 9, "markeredgewidth": 1.2}
            stroke |= {"linestyle": "none", "color": "black", "clip_on": False}
            axes.plot([infinity / 2] * 2, [0, 1], transform=place, **stroke)
    axes.set_xticks([], minor=True)
