"""Helpers shared by all figures: saving as PNG, labeling axes, and log axes with plain numbers."""

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

from vdm.files import replacing

DPI = 130


class PlainLogFormatter(LogFormatter):
    """Write 0.03 instead of 3 × 10⁻², on the same ticks that matplotlib's own formatter labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


ERROR_BARS: dict[str, Any] = {"capsize": 5, "elinewidth": 1.4, "capthick": 1.4}
"""Style of error bars, with caps large enough to show beside markers of up to 6 points."""

# The palette of Okabe and Ito, whose colors color-blind readers can tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = "black", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"


def log_y(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers on its ticks."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PlainLogFormatter())
    axes.yaxis.set_minor_formatter(PlainLogFormatter(minor_thresholds=(1.5, 0.5)))


def annotate(axes: Axes, title: str, y: str, x: str = "step", legend: bool = True) -> None:
    """Add a title, axis labels, a grid and, if anything is labeled, a legend. The label of a log axis says so."""
    axes.set_title(title)
    axes.set_xlabel(scaled(x, axes.get_xscale()))
    axes.set_ylabel(scaled(y, axes.get_yscale()))
    axes.grid(which="both", alpha=0.25)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def scaled(name: str, scale: str) -> str:
    """Return the label of an axis, with a note if its scale is logarithmic."""
    return f"{name} (log scale)" if name and scale == "log" else name


def save(figure: Figure, path: Path) -> None:
    """Write a PNG file of 256 colors, creating its folder if needed. Raises OSError if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    # A third of the size in full color, since most colors are only shades along antialiased lines.
    picture = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    with replacing(path) as partial:
        picture.save(partial, format="PNG", optimize=True)
