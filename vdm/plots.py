"""Plots of a run as PNG files: its loss, the terms of its bound, its noise schedule.

`records` are the lines of metrics.jsonl: dicts with "kind" ("train", "evaluation" or "final"), "step", "bits_per_dim"
and the terms of the bound in bits/dim; evaluations have "stderr" too. Drawn with matplotlib's Agg canvas and no global
state, so on any thread and without a display. Folders are made where missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

Records = Sequence[dict[str, Any]]

TERMS = ("reconstruction", "prior", "diffusion")
COLORS = {"reconstruction": "tab:blue", "prior": "tab:orange", "diffusion": "tab:green"}
DPI = 130


def loss(path: Path, records: Records) -> None:
    """Writes bits/dim of training batches and of the test split (± one standard error) against the step.

    The vertical range leaves out the high losses of the first steps, so that the rest can be read.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    train, test = _of_kind(records, "train"), _tests(records)
    steps, values = _series(train, "bits_per_dim")
    window = len(values) // 30
    axes.plot(steps, values, color="tab:blue", alpha=0.35 if window > 1 else 1, linewidth=0.8, label="training batches")
    if window > 1:
        # A moving mean of full windows, each drawn at its middle.
        kernel = np.full(window, 1 / window)
        middle, mean = np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")
        axes.plot(middle, mean, color="tab:blue", linewidth=1.6, label=f"training, mean of {window} points")
    test_steps, test_values = _series(test, "bits_per_dim")
    if test:
        errors = _series(test, "stderr")[1]
        last = f"test, last {test_values[-1]:.3f} ± {errors[-1]:.3f}"
        axes.errorbar(test_steps, test_values, errors, color="tab:red", marker="o", markersize=4, capsize=3, label=last)
    _limit(axes, np.concatenate([values, test_values]))
    _label(axes, "Variational bound", "bits/dim")
    _save(figure, path)


def terms(path: Path, records: Records) -> None:
    """Writes one panel a term of the bound, in bits/dim on a log axis, against the step: test points on training lines.

    Apart, because the terms differ by orders of magnitude.
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    train, test = _of_kind(records, "train"), _tests(records)
    for name, axes in zip(TERMS, figure.subplots(1, len(TERMS)), strict=True):
        color = COLORS[name]
        axes.plot(*_series(train, name), color=color, alpha=0.45, linewidth=0.8, label="training batches")
        if test:
            steps, values = _series(test, name)
            label = f"test, last {values[-1]:.3g}"
            axes.plot(steps, values, color=color, marker="o", markersize=5, linewidth=1.8, label=label)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_PlainLogFormatter())
        axes.yaxis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(1.5, 0.5)))
        _label(axes, name, "bits/dim")
    figure.suptitle("Variational bound by term")
    _save(figure, path)


def schedule(
    path: Path, t: Float[np.ndarray, " points"], gamma: Float[np.ndarray, " points"], title: str = "Noise schedule"
) -> None:
    """Writes γ against t beside the straight line between its end points, and SNR = exp(−γ) on the right axis."""
    figure = Figure(figsize=(6.5, 4.8), layout="constrained")
    axes = figure.subplots()
    ends = [0, len(t) - 1]
    axes.plot(t[ends], gamma[ends], color="grey", linestyle="--", label="straight line")
    label = f"γ(t), from {gamma[0]:.2f} to {gamma[-1]:.2f}".replace("-", "−")
    axes.plot(t, gamma, color="tab:blue", linewidth=2, label=label)
    axes.set_xlim(t[0], t[-1])
    # The two axes show the same points, so SNR runs downwards.
    right = axes.twinx()
    low, high = axes.get_ylim()
    right.set_yscale("log")
    right.set_ylim(np.exp(-low), np.exp(-high))
    right.set_ylabel("SNR = exp(−γ)")
    _label(axes, title, "γ = −log SNR", "t (0: data, 1: noise)")
    _save(figure, path)


class _PlainLogFormatter(LogFormatter):
    """0.03 for 3 × 10⁻², on the ticks that matplotlib's own formatter labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _of_kind(records: Records, kind: str) -> Records:
    return [record for record in records if record["kind"] == kind]


def _tests(records: Records) -> Records:
    """Evaluations while training, and the final one in place of the one of its step."""
    by_step = {record["step"]: record for record in records if record["kind"] in ("evaluation", "final")}
    return [by_step[step] for step in sorted(by_step)]


def _series(records: Records, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of one field."""
    return np.array([r["step"] for r in records], float), np.array(
        [np.nan if r[name] is None else r[name] for r in records], float
    )


def _limit(axes: Axes, values: np.ndarray) -> None:
    """From just below the smallest value to a little above what three quarters of the points stay under."""
    values = values[np.isfinite(values)]
    if values.size:
        low, three_quarters = values.min(), np.quantile(values, 0.75)
        high = min(values.max(), low + 3 * max(three_quarters - low, 0.02 * abs(low), 1e-6))
        margin = 0.06 * max(high - low, 1e-3)
        axes.set_ylim(low - margin, high + margin)


def _label(axes: Axes, title: str, y: str, x: str = "step") -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(which="both", alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)
