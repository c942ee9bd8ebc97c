"""Plots of a classifier's answers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from matplotlib.figure import Figure

from vdm.plots.axes import save

MOST_WRITTEN = 25
"""Largest number of classes for which counts are written into the squares and names along the sides."""


def confusion(
    path: Path, counts: Integer[np.ndarray, "labels answers"], names: Sequence[str], title: str = "Confusion"
) -> None:
    """Write a confusion matrix: a square for each label (down) and answer (across), shaded by its share of the label.

    For up to `MOST_WRITTEN` classes, nonzero counts are written into the squares.
    """
    num = len(counts)
    written = num <= MOST_WRITTEN
    size = 2.4 + 0.36 * num if written else 8.0
    figure = Figure(figsize=(size + 1.4, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if written:
        for label, answer in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[label, answer] > 0.6 else "black"
            text = str(counts[label, answer])
            axes.text(answer, label, text, ha="center", va="center", color=color, fontsize="small")
        turned = max(map(len, names)) > 3
        axes.set_xticks(range(num), names, rotation=90 if turned else 0)
        axes.set_yticks(range(num), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    axes.set_title(title, fontsize="medium", wrap=True)
    figure.colorbar(image, label="share of the label's images", shrink=0.8)
    save(figure, path)
