"""Plots of a run: its loss, the terms of its bound, its noise schedule and the variance of its estimates.

`records` are the lines of metrics.jsonl: dicts with "kind" ("train", "evaluation" or "final"), "step", "bits_per_dim"
and the terms of the bound in bits/dim. Evaluations also have "stderr", and newer ones "variance".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.plots.axes import ERROR_BARS, annotate, log_y, save, scaled

Records = Sequence[dict[str, Any]]
Rows = Sequence[Mapping[str, Any]]

TERMS = ("reconstruction", "prior", "diffusion")
BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
COLORS = {"reconstruction": "tab:blue", "prior": "tab:orange", "diffusion": "tab:green"}


def loss(
    path: Path,
    records: Records,
    name: str = "bits_per_dim",
    unit: str = "bits/dim",
    title: str = "Variational bound",
) -> None:
    """Plot bits/dim of training batches and of the test split (± one standard error) against the step.

    For other tasks, plot the field `name` of the records in its `unit`.

    Evaluations during training are one series; the final one, over all images and draws, is a separate point. The
    vertical range leaves out the high losses of the first steps so that the rest is readable, and a note counts them.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    train = _of_kind(records, "train")
    steps, values = _series(train, name)
    window = len(values) // 30
    axes.plot(steps, values, color="tab:blue", alpha=0.35 if window > 1 else 1, linewidth=0.8, label="training batches")
    if window > 1:
        # Moving average over full windows only, drawn at their centers.
        kernel = np.full(window, 1 / window)
        middle, mean = np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")
        axes.plot(middle, mean, color="tab:blue", linewidth=1.6, label=f"training, mean of {window} points")
    everything = [(steps, values)]
    styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("evaluation", "test while training, last", {"color": "tab:red", "marker": "o", "markersize": 3}),
        ("final", "final test", {"color": "black", "marker": "D", "markersize": 4, "linestyle": "none", "zorder": 3}),
    )
    for kind, what, style in styles:
        if tests := _of_kind(records, kind):
            test_steps, test_values = _series(tests, name)
            errors = _series(tests, "stderr")[1]
            last = f"{what} {test_values[-1]:.3f}" + ("" if np.isnan(errors[-1]) else f" ± {errors[-1]:.3f}")
            axes.errorbar(test_steps, test_values, errors, **style, **ERROR_BARS, label=last)
            everything.append((test_steps, test_values))
    _limit(axes, unit, *map(np.concatenate, zip(*everything, strict=True)))
    annotate(axes, title, unit)
    save(figure, path)


def terms(path: Path, records: Records) -> None:
    """Plot each term of the bound against the step, in bits/dim on a log axis, for training batches and the test split.

    Each term has its own panel because they differ by orders of magnitude.
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
        # The prior loss may be 0 in float32, which a log axis cannot show.
        if any((record.get(name) or 0) > 0 for record in (*train, *test)):
            log_y(axes)
        annotate(axes, name, "bits/dim")
    figure.suptitle("Variational bound by term")
    save(figure, path)


def schedule(
    path: Path, t: Float[np.ndarray, " points"], gamma: Float[np.ndarray, " points"], title: str = "Noise schedule"
) -> None:
    """Plot γ against t with the straight line between its end points, and SNR = exp(−γ) on the right axis."""
    figure = Figure(figsize=(6.5, 4.8), layout="constrained")
    axes = figure.subplots()
    ends = [0, len(t) - 1]
    axes.plot(t[ends], gamma[ends], color="grey", linestyle="--", label="straight line")
    label = f"γ(t), from {gamma[0]:.2f} to {gamma[-1]:.2f}".replace("-", "−")
    axes.plot(t, gamma, color="tab:blue", linewidth=2, label=label)
    axes.set_xlim(t[0], t[-1])
    # Both axes describe the same curve, so SNR decreases upward.
    right = axes.twinx()
    low, high = axes.get_ylim()
    right.set_yscale("log")
    right.set_ylim(np.exp(-low), np.exp(-high))
    right.set_ylabel(scaled("SNR = exp(−γ)", "log"))
    annotate(axes, title, "γ = −log SNR", "t (0: data, 1: noise)")
    save(figure, path)


def times(
    path: Path,
    t: Float[np.ndarray, " bins"],
    mean: Float[np.ndarray, " bins"],
    std: Float[np.ndarray, " bins"],
    diffusion: float,
) -> None:
    """Plot the single-draw diffusion loss ½·weight·‖ε − ε̂‖² in bits/dim against t: its mean in each bin ± `std`.

    `t` are the centers of equal bins of [0, 1], and `std` is taken over images and noise. Bins without draws are NaN
    and left out. A dotted line marks the diffusion term of the bound, the mean over t.
    """
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    full = np.isfinite(mean)
    t, mean, std = t[full], mean[full], std[full]
    # The loss is never negative, though its mean minus one standard deviation may be.
    band = np.maximum(mean - std, 0), mean + std
    axes.fill_between(t, *band, color="tab:green", alpha=0.2, linewidth=0, label="± one standard deviation")
    axes.plot(t, mean, color="tab:green", marker=".", label="mean over images and noise")
    axes.axhline(diffusion, color="black", linestyle=":", label=f"diffusion term, the mean over t: {diffusion:.3g}")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    annotate(axes, "Diffusion loss of one draw at each time", "½·weight·‖ε − ε̂‖² in bits/dim", "t (0: data, 1: noise)")
    save(figure, path)


def variance(path: Path, records: Records) -> None:
    """Plot the variance of the single-draw diffusion loss in (bits/dim)² against the step, on a log axis.

    The variance is taken over images, times and noise. Evaluations where "variance" is missing or None are left out.
    """
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    steps, values = _series(_tests([r for r in records if r.get("variance") is not None]), "variance")
    if len(values):
        axes.plot(steps, values, color="tab:red", marker="o", markersize=4, label=f"test, last {values[-1]:.3g}")
    log_y(axes)
    annotate(axes, "Diffusion loss of one draw: variance over images, times, noise", "variance in (bits/dim)²")
    save(figure, path)


def estimator_variance(
    path: Path,
    table: Rows,
    t: Float[np.ndarray, " points"],
    curves: Mapping[str, Float[np.ndarray, " points"]],
) -> None:
    """Plot the schedules γ(t) and, as bars on a log axis, the variance of the single-draw estimate in (bits/dim)².

    The figure follows Fig. 4 of Kingma et al. (2021). `curves` maps the name of a schedule to γ at `t`. Each row of
    `table` has that name as "schedule", the variances "iid" and "stratified", named after how the times of a batch are
    drawn, and their standard errors "iid_stderr" and "stratified_stderr".
    """
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    colors = {name: left.plot(t, gamma, linewidth=2, label=name)[0].get_color() for name, gamma in curves.items()}
    left.set_xlim(t[0], t[-1])
    annotate(left, "Noise schedules", "γ = −log SNR", "t (0: data, 1: noise)")
    log_y(right)
    right.set_axisbelow(True)
    places, width = np.arange(len(table)), 0.4
    for name, label, color, side in (("iid", "i.i.d.", "silver", -1), ("stratified", "stratified", "dimgrey", 1)):
        values, errors = [row[name] for row in table], [row[f"{name}_stderr"] for row in table]
        place = places + side * width / 2
        bars = right.bar(place, values, width, yerr=errors, capsize=3, color=color, label=f"{label} times")
        right.bar_label(bars, fmt="%.3g", padding=2, fontsize="x-small")
    names = [row["schedule"] for row in table]
    right.set_xticks(places, names)
    for name, tick in zip(names, right.get_xticklabels(), strict=True):
        tick.set(color=colors.get(name, "black"), rotation=15, ha="right", rotation_mode="anchor")
    heights = [row[name] for row in table for name in ("iid", "stratified")]
    if heights:
        # Bars on a log axis have no natural lower end. The upper end leaves room for the numbers and the legend.
        right.set_ylim(min(heights) / 3, max(heights) * 3)
    annotate(right, "Variance of the one-draw estimate", "variance in (bits/dim)²", "")
    save(figure, path)


def _of_kind(records: Records, kind: str) -> Records:
    return [record for record in records if record["kind"] == kind]


def _tests(records: Records) -> Records:
    """Return the evaluations during training, where the final one replaces the one of the same step."""
    by_step = {record["step"]: record for record in records if record["kind"] in ("evaluation", "final")}
    return [by_step[step] for step in sorted(by_step)]


def _series(records: Records, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps, values) of one field, with NaN for missing values."""
    values = [np.nan if r.get(name) is None else r[name] for r in records]
    return np.array([r["step"] for r in records], float), np.array(values, float)


def _limit(axes: Axes, unit: str, steps: np.ndarray, values: np.ndarray) -> None:
    """Limit the vertical axis to about three times the range of the lower three quarters of the points.

    A note counts the points that are cut off.
    """
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if not values.size:
        return
    low, three_quarters = values.min(), np.quantile(values, 0.75)
    high = min(values.max(), low + 3 * max(three_quarters - low, 0.02 * abs(low), 1e-6))
    margin = 0.06 * max(high - low, 1e-3)
    axes.set_ylim(low - margin, high + margin)
    above = values > high + margin
    if above.any():
        until = f"up to step {steps[above].max():.0f}, the highest {values.max():.3g} {unit}"
        text = f"cut off above: {above.sum()} of {values.size} points, {until}"
        axes.annotate(text, (0.02, 0.02), xycoords="axes fraction", fontsize="small", bbox=BOX)
