"""Conversion of pictures to the bytes of a PNG file."""

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vdm.plots.axes import DPI

Picture = Path | Figure | np.ndarray
"""A PNG file, a matplotlib figure, or a uint8 image of shape (height, width) or (height, width, 3)."""


def png(picture: Picture) -> bytes:
    """Return the picture as the bytes of a PNG file.

    >>> png(np.zeros((4, 6), np.uint8))[:4]
    b'\\x89PNG'
    """
    if isinstance(picture, Path):
        return picture.read_bytes()
    drawn = io.BytesIO()
    if isinstance(picture, Figure):
        FigureCanvasAgg(picture)
        picture.savefig(drawn, dpi=DPI)
    else:
        Image.fromarray(picture).save(drawn, format="PNG")
    return drawn.getvalue()
