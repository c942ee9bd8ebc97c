"""The figure of a classifier on noisy images: how often it is right, by γ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vdm.plots.axes import BLUE, ERROR_BARS, ORANGE, annotate, save


def accuracy(
    path: Path,
    edges: Float[np.ndarray, " edges"],
    values: Sequence[float | None],
    errors: Sequence[float | None],
    clean: float,
    num_classes: int,
) -> None:
    """Writes the accuracy in each bin of γ ± one standard error, that on clean images at γ(0), and that of chance.

    `edges` are the ends of the bins; values are None where no image fell, errors where they are not known.
    """
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    centers = (edges[:-1] + edges[1:]) / 2
    heights, bars = (np.array([np.nan if v is None else v for v in of]) for of in (values, errors))
    axes.errorbar(centers, heights, np.nan_to_num(bars), color=BLUE, marker="o", **ERROR_BARS, label="test images")
    axes.plot(edges[:1], [clean], color=ORANGE, marker="D", linestyle="none", label=f"clean, at γ(0): {clean:.3f}")
    axes.axhline(1 / num_classes, color="grey", linestyle=":", label=f"chance, 1 of {num_classes}")
    axes.set_ylim(0, 1.03)
    annotate(axes, "Classifier on noisy images", "accuracy", "γ = −log SNR (more noise to the right)")
    save(figure, path)
