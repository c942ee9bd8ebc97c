"""Pictures of images, each with its own caption below it."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer
from PIL import Image, ImageDraw

from vdm.plots.images import MARGIN, broken, columns_of, font, length, line_height, tile, to_pixels, write_png

WIDTH = 168
"""Minimum width of a caption's lines in pixels."""
LINES = 3
"""Maximum number of lines of a caption; longer captions are cut off with "…"."""


def captioned(
    images: Integer[np.ndarray, "n height width channels"] | Float[np.ndarray, "n height width channels"],
    path: Path,
    levels: int,
    captions: Sequence[str],
    caption: str = "",
) -> None:
    """Write one PNG: a near-square grid of images with their captions below, with values as in `vdm.plots.images.grid`.

    Raises ValueError unless there is a caption for each image, and if `images` is empty or of another form.
    """
    values = to_pixels(images, levels)
    if len(captions) != len(values):
        raise ValueError(f"captions: {len(captions)} of {len(values)} images; must be one for each")
    tiles = [Image.fromarray(_drawn(tile(each[None], 1))) for each in values]
    line, (width, height) = line_height(), tiles[0].size
    cell = max(width, WIDTH) + MARGIN, height + LINES * line + MARGIN
    columns = columns_of((len(tiles), cell[1], cell[0]))
    above = broken(caption, columns * cell[0] - 2 * MARGIN)
    top = len(above) * line + MARGIN * (1 + bool(above))
    canvas = Image.new(tiles[0].mode, (columns * cell[0], top + math.ceil(len(tiles) / columns) * cell[1]), "white")
    draw = ImageDraw.Draw(canvas)
    for k, text in enumerate(above):
        draw.text((MARGIN, MARGIN + k * line), text, "black", font())
    for k, (image, text) in enumerate(zip(tiles, captions, strict=True)):
        left, upper = (k % columns) * cell[0], top + (k // columns) * cell[1]
        canvas.paste(image, (left + (cell[0] - width) // 2, upper))
        for n, words in enumerate(of_lines(text, cell[0] - MARGIN)):
            draw.text((left + (cell[0] - length(words)) // 2, upper + height + n * line), words, "black", font())
    write_png(path, canvas)


def of_lines(text: str, width: int) -> list[str]:
    """Break a text into at most `LINES` lines that are no wider than this many pixels.

    >>> of_lines("a bold seven", 168)
    ['a bold seven']
    """
    lines = broken(text, width)
    if len(lines) <= LINES:
        return lines
    last = lines[LINES - 1]
    while last and length(f"{last}…") > width:
        last = last[:-1]
    return [*lines[: LINES - 1], f"{last.rstrip()}…"]


def _drawn(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] if picture.shape[-1] == 1 else picture
