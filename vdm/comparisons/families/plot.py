"""The figure of compare.py --by=family: the terms of each bound, sample quality, and holes in the prior."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.comparisons.families.table import FamilyOutcome, group
from vdm.comparisons.seeds import statistics
from vdm.evaluation.metrics import Metric
from vdm.plots.axes import BLACK, BLUE, ERROR_BARS, ORANGE, annotate, save

LAYERS = ("#E69F00", "#F3C766", "#F9E3B3", "#D55E00")
"""Colors of the layers' rates, in turn."""
LEAST = 1e-4
"""Lower limit of the logarithmic axis for holes, in nats; those of diffusion models are negligible."""


def plot(path: Path, metrics: Mapping[str, Metric], outcomes: Sequence[FamilyOutcome]) -> None:
    """Plot one row per member: means over seeds, with standard deviations as error bars."""
    groups = group(outcomes)
    names, rows = [str(member) for member in groups], np.arange(len(groups))
    figure = Figure(figsize=(4.6 + 3.6 * (1 + len(metrics)), max(5.0, 1.6 + 0.42 * len(rows))), layout="constrained")
    panels = figure.subplots(1, 2 + len(metrics), sharey=True, width_ratios=[1.3, *[1.0] * (1 + len(metrics))])
    bound, *qualities, hole = panels
    _terms(bound, list(groups.values()))
    for axes, (name, metric) in zip(qualities, metrics.items(), strict=True):
        for label, where, color, shift in (
            ("z_T of the prior", "from_prior", BLUE, -0.12),
            ("z_T of the aggregate posterior", "from_aggregate", ORANGE, 0.12),
        ):
            for row, those in enumerate(groups.values()):
                found = [getattr(outcome, where) for outcome in those]
                if None not in found:
                    mean, std = statistics([metric.factor * of[name] for of in found])
                    axes.errorbar(mean, row + shift, xerr=std, fmt="o", color=color, markersize=4, **ERROR_BARS)
            axes.plot([], [], "o", color=color, markersize=4, label=label)
        annotate(axes, "samples", "", metric.heading())
        axes.legend(fontsize="x-small", loc="upper right")
    for row, those in enumerate(groups.values()):
        mean, std = statistics([outcome.hole["kl"] for outcome in those])
        hole.errorbar(max(mean, LEAST), row, xerr=std, fmt="s", color=BLACK, markersize=4, **ERROR_BARS)
    hole.set_xscale("log")
    annotate(hole, "the hole (10⁻⁴ or less)", "", "KL(q(z_T) ‖ p(z_T)), nats")
    figure.legend(*bound.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize="x-small")
    bound.set_yticks(rows, names)
    bound.invert_yaxis()
    save(figure, path)


def _terms(axes: Axes, groups: Sequence[Sequence[FamilyOutcome]]) -> None:
    """Stack bars of the reconstruction and the layers' rates; with infinitely many layers, the rates are one bar."""
    for row, those in enumerate(groups):
        first = those[0]
        mean, std = statistics([outcome.bits_per_dim for outcome in those])
        start = float(np.mean([outcome.reconstruction for outcome in those]))
        axes.barh(row, start, color=BLUE, height=0.6, label="reconstruction" if row == 0 else None)
        if first.rates is None:
            axes.barh(row, mean - start, left=start, color=LAYERS[0], height=0.6)
        else:
            for t in range(len(first.rates)):
                rate = float(np.mean([outcome.rates[t] for outcome in those if outcome.rates is not None]))
                color = LAYERS[t % len(LAYERS)]
                axes.barh(row, rate, left=start, color=color, height=0.6, edgecolor="white", linewidth=0.4)
                start += rate
        axes.errorbar(mean, row, xerr=std, fmt="none", ecolor=BLACK, **ERROR_BARS)
    axes.barh(0, 0, color=LAYERS[0], label="rates, the lowest layer's first")
    annotate(axes, "bound on test data", "", "bits/dim", legend=False)
