"""The figure of compare.py --by=codec: bits/dim by number of time steps, with classical coders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.comparisons.codecs.classical import Outcome
from vdm.comparisons.codecs.coded import Coded
from vdm.plots.axes import BLACK, BLUE, ERROR_BARS, RED, annotate, save

STYLES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def plot(path: Path, several: Sequence[Coded], outcomes: Sequence[Outcome]) -> None:
    """Plot bound, net rate and gross rate of all images against T, and the net rate above the bound with its error.

    In the left panel, classical coders are gray lines, each in the more compact of its two ways.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    steps = [coded.num_steps for coded in several]
    bound = [coded.bound for coded in several]
    errors = np.array([coded.bound_stderr for coded in several], float)  # None becomes NaN: no error bar
    last = several[0].files[-1][0]
    left.errorbar(steps, bound, errors, color=BLACK, marker="_", label="bound", **ERROR_BARS)
    style: dict[str, Any] = {"markerfacecolor": "none", "linestyle": "none"}
    left.plot(steps, [coded.net for coded in several], "o", color=BLUE, label="net rate", **style)
    gross = [coded.gross()[last] for coded in several]
    left.plot(steps, gross, "s", color=RED, label="gross rate, one file", **style)
    num_values = several[0].num_images * several[0].num_dims
    found = sorted((8 * outcome.smallest / num_values, outcome.name) for outcome in outcomes if outcome.smallest)
    for index, (rate, name) in enumerate(found):
        grey = str(0.25 + 0.5 * index / len(found))
        left.axhline(rate, color=grey, linewidth=1, linestyle=STYLES[index % len(STYLES)], label=f"{name} ({rate:.2f})")
    left.set_ylim(bottom=0)
    right.axhline(0, color=BLACK, linewidth=0.8)
    style = {**ERROR_BARS, "color": BLUE, "marker": "o", "linestyle": "none"}
    right.errorbar(steps, [coded.above for coded in several], [coded.noise for coded in several], **style)
    for axes in (left, right):
        _steps_axis(axes, steps)
    annotate(left, f"Lossless compression of {several[0].num_images} images", "bits/dim", "T", legend=False)
    handles, labels = left.get_legend_handles_labels()
    order = [labels.index("bound"), *(k for k, label in enumerate(labels) if label != "bound")]
    left.legend([handles[k] for k in order], [labels[k] for k in order], loc="upper left", bbox_to_anchor=(1.0, 1.0))
    annotate(right, "Net rate above the bound", "bits/dim", "T")
    save(figure, path)


def _steps_axis(axes: Axes, steps: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(steps, [str(num) for num in steps])
    axes.set_xticks([], minor=True)
