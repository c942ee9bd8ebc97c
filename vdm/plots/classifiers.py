"""Plot of the accuracy of a classifier, or of an image–text model, on noisy images by noise level γ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vdm.evaluation.statistics import Share
from vdm.plots.axes import BLUE, ERROR_BARS, ORANGE, annotate, save


def by_gamma(
    path: Path,
    edges: Float[np.ndarray, " edges"],
    series: Mapping[str, tuple[Sequence[Share | None], Share]],
    num_choices: int,
    title: str,
) -> None:
    """Plot the accuracy in each bin of γ ± one standard error, the accuracy on clean images at γ(0), and chance level.

    `edges` are the ends of the bins. `series` maps a name in the legend to (the accuracy in each bin, None for a bin
    without images; the accuracy on clean images).
    """
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    centers = (edges[:-1] + edges[1:]) / 2
    for color, (name, (shares, clean)) in zip((BLUE, ORANGE), series.items(), strict=False):
        heights = [np.nan if share is None else share.value for share in shares]
        bars = [0.0 if share is None or share.stderr is None else share.stderr for share in shares]
        axes.errorbar(centers, heights, bars, color=color, marker="o", **ERROR_BARS, label=name)
        label = f"{name}, clean, at γ(0): {clean.value:.3f}"
        axes.plot(edges[:1], [clean.value], color=color, marker="D", linestyle="none", label=label)
    axes.axhline(1 / num_choices, color="grey", linestyle=":", label=f"chance, 1 of {num_choices}")
    axes.set_ylim(0, 1.03)
    annotate(axes, title, "accuracy", "γ = −log SNR (more noise to the right)")
    save(figure, path)
