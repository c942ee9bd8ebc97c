"""Pictures of vectors as points of the plane: beside those of the data, and on their way from noise to data.

Only the first two values of longer vectors are drawn. All panels share the same axes, set by the data.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.plots.axes import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, save

Vectors = Float[np.ndarray, "_ ..."]

COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
"""Colors of the named groups, used in turn."""
PANEL = 2.6
"""Side of a panel in inches."""
MOST_POINTS = 2000
"""Largest number of points in a panel."""
MOST_PANELS = 10
"""Largest number of times shown in a strip; if there are more, evenly spaced ones are chosen."""
MARGIN = 0.15
"""Margin around the data, as a share of their extent."""


def scatter(
    vectors: Vectors,
    path: Path,
    data: Vectors,
    caption: str = "",
    rows: Sequence[str] = (),
    titles: tuple[str, str] = ("test data", "samples"),
) -> None:
    """Write one PNG with `data` on the left and `vectors` on the right; vector k belongs to `rows[k % len(rows)]`.

    Raises ValueError if either array is empty.
    """
    _check(vectors=vectors, data=data)
    figure, axes = _panels(2, 1, data)
    _points(axes[0, 0], data, titles[0])
    _points(axes[0, 1], vectors, titles[1], rows)
    if rows:
        axes[0, 1].legend(fontsize="x-small", loc="upper right", markerscale=3)
    figure.suptitle(caption, fontsize="small", wrap=True)
    save(figure, path)


def strip(
    frames: Float[np.ndarray, "kept _ ..."],
    path: Path,
    data: Vectors,
    caption: str = "",
    columns: Sequence[str] = (),
    title: str = "test data",
) -> None:
    """Write one PNG with a panel for each kept time, titled by `columns`, noisiest on the left, and `data` last.

    Raises ValueError if either array is empty.
    """
    _check(frames=frames, data=data)
    shown = np.unique(np.rint(np.linspace(0, len(frames) - 1, min(len(frames), MOST_PANELS))).astype(int))
    figure, axes = _panels(len(shown) + 1, 1, data)
    for panel, k in zip(axes[0], shown, strict=False):
        _points(panel, frames[k], columns[k] if columns else "")
    _points(axes[0, -1], data, title)
    figure.suptitle(caption, fontsize="small", wrap=True)
    save(figure, path)


def plane(vectors: Vectors) -> Float[np.ndarray, "num 2"]:
    """Return the first two values of each vector; vectors with a single value are padded with 0.

    >>> plane(np.array([[1.0, 2.0, 3.0]])).tolist(), plane(np.array([[1.0]])).tolist()
    ([[1.0, 2.0]], [[1.0, 0.0]])
    """
    flat = vectors.reshape(len(vectors), -1)[:, :2]
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def _panels(columns: int, rows: int, data: Vectors) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(PANEL * columns, PANEL * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    low, high = plane(data).min(axis=0), plane(data).max(axis=0)
    margin = MARGIN * max(float((high - low).max()), 1e-6)
    axes[0, 0].set_xlim(low[0] - margin, high[0] + margin)
    axes[0, 0].set_ylim(low[1] - margin, high[1] + margin)
    for panel in axes.ravel():
        panel.set_aspect("equal")
        panel.grid(alpha=0.25)
    return figure, axes


def _points(axes: Axes, vectors: Vectors, title: str, names: Sequence[str] = ()) -> None:
    points = plane(vectors)[:MOST_POINTS]
    size = float(np.clip(2000 / len(points), 1, 12))
    for k, name in enumerate(names or [""]):
        part = points[k :: max(1, len(names))]
        color = COLORS[k % len(COLORS)]
        axes.scatter(part[:, 0], part[:, 1], s=size, color=color, alpha=0.6, linewidths=0, label=name or None)
    axes.set_title(title, fontsize="small")


def _check(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if array.size == 0:
            raise ValueError(f"{name} has shape {array.shape}: must have some values")
