"""What all figures share: a written PNG file, axes with their labels, log axes with plain numbers."""

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
    """0.03 for 3 × 10⁻², on the ticks that matplotlib's own formatter labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


ERROR_BARS: dict[str, Any] = {"capsize": 5, "elinewidth": 1.4, "capthick": 1.4}
"""Caps that stand out beside markers of up to 6 points."""

# Colours of Okabe and Ito, which the colour-blind tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = "black", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"


def log_y(axes: Axes) -> None:
    """Makes the vertical axis logarithmic."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PlainLogFormatter())
    axes.yaxis.set_minor_formatter(PlainLogFormatter(minor_thresholds=(1.5, 0.5)))


def annotate(axes: Axes, title: str, y: str, x: str = "step", legend: bool = True) -> None:
    """Title, names of the axes, grid and, if anything has a label, legend; of a log axis the name says so."""
    axes.set_title(title)
    axes.set_xlabel(scaled(x, axes.get_xscale()))
    axes.set_ylabel(scaled(y, axes.get_yscale()))
    axes.grid(which="both", alpha=0.25)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def scaled(name: str, scale: str) -> str:
    """The name of an axis of this scale."""
    return f"{name} (log scale)" if name and scale == "log" else name


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG file of 256 colours, and its folder where missing. Raises OSError if it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    # A third of the bytes of full colour: most colours are the soft edges of lines.
    picture = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    with replacing(path) as partial:
        picture.save(partial, format="PNG", optimize=True)
