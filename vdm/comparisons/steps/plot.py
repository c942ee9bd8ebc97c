"""The figure of compare.py --by=steps: bits/dim by number of time steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from vdm.plots.axes import ERROR_BARS, annotate, log_y, save

TIME_STEPS = "number of time steps T"


def plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes bits/dim against the number of time steps T, and what each T costs over T = ∞.

    A row has "trained" and "evaluated" (numbers of steps, None for ∞), "bits_per_dim" and its "stderr", and possibly
    "excess_stderr", the standard error of its paired difference from the model trained and evaluated at ∞. Two series:
    trained at ∞ and evaluated at T, trained and evaluated at T; rows of neither are left out. On the left bits/dim with
    ∞ set apart as the last tick, behind a break in the axis. On the right the excess over the row of ∞ and ∞ in
    bits/dim on log axes, beside a line that falls as 1/T; an excess ≤ 0 is a triangle at the lower edge. Without that
    row there is neither ∞ nor the right; without any T there is no right.
    """
    series = {
        "trained at ∞, evaluated at T": [row for row in rows if row["trained"] is None],
        "trained and evaluated at T": [row for row in rows if row["trained"] == row["evaluated"]],
    }
    best = next((r["bits_per_dim"] for r in rows if r["trained"] is None and r["evaluated"] is None), None)
    steps = sorted({row["evaluated"] for part in series.values() for row in part} - {None})
    infinity = 4 * max(steps, default=1)
    num_panels = 1 if best is None or not steps else 2
    figure = Figure(figsize=(6.5 if num_panels == 1 else 12, 4.8), layout="constrained")
    left, *right = figure.subplots(1, num_panels, squeeze=False)[0]
    _steps_axis(left, steps, None if best is None else infinity)
    for axes in right:
        log_y(axes)
        _steps_axis(axes, steps)
    positive = []
    for (label, part), color, marker, size in zip(series.items(), ("tab:blue", "tab:red"), "os", (6, 3), strict=True):
        # One hollow and the other small, for the series may coincide.
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": size, "linewidth": 1.2, **ERROR_BARS}
        style |= {"markerfacecolor": "none"} if size > 3 else {}
        finite = sorted((row for row in part if row["evaluated"] is not None), key=lambda row: row["evaluated"])
        at_infinity = [row for row in part if row["evaluated"] is None]
        # Apart, so that no line goes over to ∞.
        for rows_here, name in ((finite, label), (at_infinity, None if finite else label)):
            if not rows_here:
                continue
            x = [row["evaluated"] or infinity for row in rows_here]
            bits = [row["bits_per_dim"] for row in rows_here]
            stderr = np.array([row["stderr"] for row in rows_here], float)  # None: NaN, no bar
            left.errorbar(x, bits, stderr, **style, label=name)
        style["label"] = label
        for axes in right:
            T = np.array([row["evaluated"] for row in finite], float)
            excess = np.array([row["bits_per_dim"] - best for row in finite], float)
            errors = np.array([row.get("excess_stderr") for row in finite], float)
            axes.errorbar(T, np.where(excess > 0, excess, np.nan), errors, **style)
            if (excess <= 0).any():
                under = {"transform": axes.get_xaxis_transform(), "color": color, "label": "excess ≤ 0"}
                axes.plot(T[excess <= 0], np.full((excess <= 0).sum(), 0.02), "v", **under)
            positive += list(zip(excess[excess > 0], T[excess > 0], strict=True))
    annotate(left, "Bits/dim by number of time steps", "bits/dim", TIME_STEPS)
    for axes in right:
        if positive:
            highest, at = max(positive)
            axes.plot(steps, highest * at / np.array(steps), color="grey", linestyle="--", label="falls as 1/T")
            axes.set_ylim(min(positive)[0] / 2, highest * 2)
        annotate(axes, f"Excess over trained and evaluated at ∞ ({best:.3f})", "excess in bits/dim", TIME_STEPS)
    save(figure, path)


def _steps_axis(axes: Axes, steps: Sequence[int], infinity: int | None = None) -> None:
    """A log axis with a tick at each number of steps and no others, but for ∞, set apart at the place `infinity`."""
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
