"""The figure of compare.py --by=steps: bits/dim by number of time steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.plots.axes import annotate, log_y, save


def plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes bits/dim against the number of time steps T, and what each T costs over T = ∞.

    A row has "trained" and "evaluated" (numbers of steps, None for ∞), "bits_per_dim" and its "stderr", and possibly
    "excess_stderr", the standard error of its paired difference from the model trained and evaluated at ∞. Two series:
    trained at ∞ and evaluated at T, trained and evaluated at T; rows of neither are left out. On the left bits/dim with
    ∞ set apart as the last tick. On the right the excess over the row of ∞ and ∞ in bits/dim on log axes, beside a line
    that falls as 1/T; an excess ≤ 0 is a triangle at the lower edge. Without that row there is neither ∞ nor the right.
    """
    series = {
        "trained at ∞, evaluated at T": [row for row in rows if row["trained"] is None],
        "trained and evaluated at T": [row for row in rows if row["trained"] == row["evaluated"]],
    }
    best = next((r["bits_per_dim"] for r in rows if r["trained"] is None and r["evaluated"] is None), None)
    steps = sorted({row["evaluated"] for part in series.values() for row in part} - {None})
    infinity = 4 * max(steps, default=1)
    figure = Figure(figsize=(6.5 if best is None else 12, 4.8), layout="constrained")
    left, *right = figure.subplots(1, 1 if best is None else 2, squeeze=False)[0]
    _steps_axis(left, steps, None if best is None else infinity)
    for axes in right:
        log_y(axes)
        _steps_axis(axes, steps)
    positive = []
    for (label, part), color, marker in zip(series.items(), ("tab:blue", "tab:red"), ("o", "s"), strict=True):
        # Hollow, for the series may coincide.
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 6, "markerfacecolor": "none"}
        style |= {"capsize": 3, "linewidth": 1.2, "label": label}
        ordered = sorted(part, key=lambda row: row["evaluated"] or infinity)
        x = [row["evaluated"] or infinity for row in ordered]
        stderr = np.array([row["stderr"] for row in ordered], float)  # None: NaN, no bar
        left.errorbar(x, [row["bits_per_dim"] for row in ordered], stderr, **style)
        for axes in right:
            finite = [row for row in ordered if row["evaluated"] is not None]
            T = np.array([row["evaluated"] for row in finite], float)
            excess = np.array([row["bits_per_dim"] - best for row in finite], float)
            errors = np.array([row.get("excess_stderr") for row in finite], float)
            axes.errorbar(T, np.where(excess > 0, excess, np.nan), errors, **style)
            if (excess <= 0).any():
                under = {"transform": axes.get_xaxis_transform(), "color": color, "label": "excess ≤ 0"}
                axes.plot(T[excess <= 0], np.full((excess <= 0).sum(), 0.02), "v", **under)
            positive += list(zip(excess[excess > 0], T[excess > 0], strict=True))
    annotate(left, "Bits/dim by number of time steps", "bits/dim", "T")
    for axes in right:
        if positive:
            highest, at = max(positive)
            axes.plot(steps, highest * at / np.array(steps), color="grey", linestyle="--", label="falls as 1/T")
            axes.set_ylim(min(positive)[0] / 2, highest * 2)
        annotate(axes, f"Excess over trained and evaluated at ∞ ({best:.3f})", "excess in bits/dim", "T")
    save(figure, path)


def _steps_axis(axes: Axes, steps: Sequence[int], infinity: int | None = None) -> None:
    """A log axis with a tick at each number of steps and no others, but for ∞, set apart at the place `infinity`."""
    axes.set_xscale("log")
    if infinity is None:
        axes.set_xticks(steps, [str(T) for T in steps])
    else:
        axes.set_xticks([*steps, infinity], [*map(str, steps), "∞"])
        axes.axvline(infinity / 2, color="black", linestyle=":")
    axes.set_xticks([], minor=True)
