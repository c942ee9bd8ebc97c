"""Figures for a run that trains a VAE, a hierarchical VAE or a ladder network: its loss layer by layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.plots.axes import annotate, log_y, save

TRAINING: dict[str, Any] = {"alpha": 0.4, "linewidth": 0.8}
TEST: dict[str, Any] = {"marker": "o", "markersize": 4}


def layers(path: Path, records: Sequence[Mapping[str, Any]], units: Sequence[int]) -> None:
    """Plot the reconstruction term, the rate of each layer in bits/dim and its number of active units against the step.

    `records` are the lines of metrics.jsonl. They have "reconstruction", "rate_1", …, and evaluations also have
    "active_1", …. `units` are the numbers of latents in each layer.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)

    def draw(axes: Axes, name: str, color: str, label: str) -> None:
        axes.plot(*_series(records, ("train",), name), color=color, **TRAINING)
        axes.plot(*_series(records, ("evaluation", "final"), name), color=color, label=label, **TEST)

    draw(left, "reconstruction", "tab:blue", "test; thin: training batches")
    for t, num in enumerate(units, 1):
        color = f"C{(t - 1) % 10}"
        draw(middle, f"rate_{t}", color, f"layer {t}")
        draw(right, f"active_{t}", color, f"layer {t}, of {num}")
    right.set_ylim(0, max(units) * 1.05)
    annotate(left, "Reconstruction", "bits/dim")
    annotate(middle, "Rate of each layer", "bits/dim")
    annotate(right, "Active units", "units")
    save(figure, path)


def costs(path: Path, records: Sequence[Mapping[str, Any]], weights: Sequence[float]) -> None:
    """Plot the unweighted cost of each layer of a ladder network against the step, on a log axis.

    `records` are the lines of metrics.jsonl, where "cost_0" is the cost of the image and "cost_1", … are those of the
    layers above it. Training records include the weights λ_t and are divided by `weights`; evaluations do not.
    """
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for t, weight in enumerate(weights):
        what, color = f"layer {t}" if t else "image", f"C{t % 10}"
        steps, values = _series(records, ("train",), f"cost_{t}")
        if weight:
            axes.plot(steps, values / weight, color=color, **TRAINING)
        axes.plot(*_series(records, ("evaluation", "final"), f"cost_{t}"), color=color, label=f"{what}, test", **TEST)
    log_y(axes)
    annotate(axes, "Cost of each layer", "squared error, a unit")
    save(figure, path)


def _series(records: Sequence[Mapping[str, Any]], kinds: Sequence[str], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps, values) of one field from the records of these kinds that have it."""
    of_kinds = [record for record in records if record["kind"] in kinds and record.get(name) is not None]
    return (
        np.array([record["step"] for record in of_kinds], float),
        np.array([record[name] for record in of_kinds], float),
    )
