"""Pictures of images: grids, strips and animations, as PNG and GIF files.

Every function takes any number of channels: 1 is drawn in gray and 3 in color; of 2 channels the first one is drawn,
and of more than 3 the first three. Small images are enlarged by an integer factor without interpolation and separated
by `GUTTER` pixels. The factor depends only on the images' shape, so that all pictures of images of one shape have tiles
of one size. Captions and names are written on white around the tiles. Missing folders are created.
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from vdm.files import replacing
from vdm.likelihoods import REAL

GUTTER = 2
"""Width in pixels of the gutter between the images of a grid and around it."""
GUTTER_VALUE = 255
"""Gray value of the gutter."""
TILE = 96
"""Images are enlarged until their shorter side has at least this many pixels, …"""
LONGEST_TILE = 384
"""… unless the longer side would then have more than this many."""
MAX_COLUMNS = 16
"""Largest number of columns in a strip, which shows evenly spaced frames if there are more, and in a grid with rows."""
MAX_ROWS = 20
"""Largest number of named rows in a grid."""
FRAME_MILLISECONDS = 120
LAST_FRAME_MILLISECONDS = 2500
GIF_LIMIT = 65535
"""Largest side in pixels that the GIF format allows."""
FONT_SIZE = 15
MARGIN = 8
"""Space in pixels around text."""
TEXT_WIDTH = 400
"""Captions may be at least this many pixels wide before they are broken into lines."""


class Arrow(NamedTuple):
    """An arrow from left to right below the images."""

    start: str
    """Text at its left end."""
    end: str
    """Text at its tip."""


TO_DATA = Arrow("noise", "data")
"""The direction of a sampler."""


def grid(
    images: Integer[np.ndarray, "n height width channels"] | Float[np.ndarray, "n height width channels"],
    path: Path,
    levels: int,
    caption: str = "",
    rows: Sequence[str] = (),
) -> None:
    """Write one PNG with the images, row by row, in a near-square grid.

    Integer values are from 0 to levels − 1; real ones are clipped to [−1, 1]. With names for at most `MAX_ROWS` rows,
    image k is in row k modulo their number, and a row of more than `MAX_COLUMNS` images continues on the lines below.
    Raises ValueError if `images` has another form or is empty.
    """
    values = to_pixels(images, levels)
    columns, names = columns_of(images.shape), tuple[str, ...]()
    if 1 <= len(rows) <= min(MAX_ROWS, len(images)):
        of_row = -(-len(images) // len(rows))
        lines = -(-of_row // MAX_COLUMNS)
        columns = -(-of_row // lines)
        names = tuple(text for name in rows for text in (name, *[""] * (lines - 1)))
        # Empty cells look like the gutter.
        blank = np.full((len(names) * columns - len(images), *values.shape[1:]), GUTTER_VALUE, np.uint8)
        by_column = np.concatenate([values, blank]).reshape(lines * columns, len(rows), *values.shape[1:])
        values = np.swapaxes(by_column, 0, 1).reshape(-1, *values.shape[1:])
    write_png(path, framed(tile(values, columns), -(-len(values) // columns), columns, caption, rows=names))


def strip(
    frames: Float[np.ndarray, "kept batch height width channels"],
    path: Path,
    caption: str = "",
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    arrow: Arrow | None = None,
) -> None:
    """Write one PNG with a row for each image and a column for each kept time, noisiest on the left.

    Values are clipped to [−1, 1]. `columns` and `rows` name all columns and rows. If there are more than `MAX_COLUMNS`
    frames, that many are shown, including the first and the last. Raises ValueError if `frames` has another form or is
    empty.
    """
    _check_images("frames", frames, 5)
    shown = _spread(len(frames), MAX_COLUMNS)
    by_image = np.swapaxes(_to_bytes(frames[shown]), 0, 1)
    picture = tile(by_image.reshape(-1, *frames.shape[2:]), len(shown))
    names = [columns[i] for i in shown] if columns else ()
    write_png(path, framed(picture, len(by_image), len(shown), caption, names, rows, arrow))


def animation(
    frames: Float[np.ndarray, "kept batch height width channels"],
    path: Path,
    caption: str = "",
    names: Sequence[str] = (),
    arrow: Arrow | None = None,
) -> None:
    """Write one looping GIF with a near-square grid of the images at each kept time; it pauses on the last one.

    Values are clipped to [−1, 1]. `names` has a name for each time, shown with the caption, and a dot on the arrow
    marks the position of the frame. Equal consecutive frames are stored once and shown for their total time. Raises
    ValueError if `frames` has another form or is empty, or if the pictures exceed `GIF_LIMIT` pixels a side.
    """
    _check_images("frames", frames, 5)
    columns = columns_of(frames.shape[1:])
    rows = -(-frames.shape[1] // columns)
    pictures = []
    for i, values in enumerate(_to_bytes(frames)):
        text = "\n".join(filter(None, [caption, names[i] if names else ""]))
        at = i / max(1, len(frames) - 1)
        pictures.append(framed(tile(values, columns), rows, columns, text, arrow=arrow, at=at))
    if max(pictures[0].size) > GIF_LIMIT:
        size = "×".join(map(str, pictures[0].size))
        raise ValueError(f"frames make pictures of {size} pixels: a GIF has at most {GIF_LIMIT} per side")
    durations = [FRAME_MILLISECONDS] * (len(pictures) - 1) + [LAST_FRAME_MILLISECONDS]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        rest = pictures[1:]
        pictures[0].save(partial, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def columns_of(shape: Sequence[int]) -> int:
    """Return the number of columns for a near-square picture of images of shape (n, height, width, channels)."""
    num, height, width, *_ = shape
    return min(num, max(1, math.ceil(math.sqrt(num * height / width))))


def scale_of(height: int, width: int) -> int:
    """Return the integer factor by which images of this size are enlarged."""
    low, high = sorted((height, width))
    return max(1, min(math.ceil(TILE / low), LONGEST_TILE // high))


def tile(
    images: UInt8[np.ndarray, "n height width channels"], columns: int
) -> UInt8[np.ndarray, "rows_height columns_width drawn"]:
    """Arrange the images row by row, with gutters, in one picture of 1 or 3 channels; empty cells look like gutter."""
    images = images[..., : 3 if images.shape[-1] >= 3 else 1]
    num, height, width, channels = images.shape
    rows, scale = math.ceil(num / columns), scale_of(height, width)
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = scale * height + GUTTER, scale * width + GUTTER
    picture = np.full((rows * height + GUTTER, columns * width + GUTTER, channels), GUTTER_VALUE, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * height + GUTTER, (i % columns) * width + GUTTER
        picture[top : top + image.shape[0], left : left + image.shape[1]] = image
    return picture


class Text(NamedTuple):
    """A line of text and its position."""

    text: str
    left: int
    top: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The text's bounding box: (left, top, right, bottom)."""
        return self.left, self.top, self.left + length(self.text), self.top + line_height()


class Layout(NamedTuple):
    """The positions of all elements of a picture, in pixels."""

    size: tuple[int, int]
    """(width, height) of the picture."""
    tiles: tuple[int, int]
    """(left, top) of the images."""
    texts: list[Text]
    arrow: tuple[int, int, int] | None
    """(left, right, y) of the arrow."""


def layout(
    tiles: tuple[int, int],
    num_rows: int,
    num_columns: int,
    caption: str = "",
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    arrow: Arrow | None = None,
) -> Layout:
    """Compute the layout of captions, names and an arrow around tiles of this (width, height).

    The caption is at the top, broken into lines if it is too long. Names of columns are below it, as many as there is
    room for, and may have several lines. Names of rows are on the left, and the arrow is at the bottom.
    """
    width, height = tiles
    line = line_height()
    left = max(map(length, rows)) + 2 * MARGIN if rows else 0
    texts, top = [], 0
    if caption:
        lines = broken(caption, max(left + width, TEXT_WIDTH) - 2 * MARGIN)
        texts += [Text(text, MARGIN, MARGIN + i * line) for i, text in enumerate(lines)]
        top += len(lines) * line + 2 * MARGIN
    if columns:
        pitch = (width - GUTTER) / num_columns
        top += 0 if caption else MARGIN // 2
        for i in _spread(num_columns, _fitting(columns, pitch)):
            middle = left + round(GUTTER / 2 + (i + 0.5) * pitch)
            for k, part in enumerate(columns[i].split("\n")):
                # Names at the edges are moved inside.
                at = min(max(middle - length(part) // 2, left), max(left, left + width - length(part)))
                texts.append(Text(part, at, top + k * line))
        top += line * max(name.count("\n") + 1 for name in columns) + (MARGIN // 2 if caption else 0)
    pitch = (height - GUTTER) / num_rows
    for i, name in enumerate(rows):
        texts.append(Text(name, MARGIN, max(top, round(top + GUTTER / 2 + (i + 0.5) * pitch - line / 2))))
    bottom, place = top + height, None
    if arrow is not None:
        end = left + max(width, TEXT_WIDTH) - MARGIN - length(arrow.end)
        texts += [Text(arrow.start, left + MARGIN, bottom + MARGIN), Text(arrow.end, end, bottom + MARGIN)]
        place = (left + 2 * MARGIN + length(arrow.start), end - MARGIN, bottom + MARGIN + line // 2)
        bottom += line + 2 * MARGIN
    right = max([left + width, *(text.box[2] + MARGIN for text in texts if text.box[2] > left + width)])
    return Layout((right, bottom), (left, top), texts, place)


def framed(
    picture: UInt8[np.ndarray, "rows_height columns_width drawn"],
    num_rows: int,
    num_columns: int,
    caption: str = "",
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    arrow: Arrow | None = None,
    at: float | None = None,
) -> Image.Image:
    """Frame a picture made by `tile` with its texts, and draw a dot at the fraction `at` of the arrow."""
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    found = layout(image.size, num_rows, num_columns, caption, columns, rows, arrow)
    canvas = Image.new(image.mode, found.size, "white")
    canvas.paste(image, found.tiles)
    draw = ImageDraw.Draw(canvas)
    for text, left, top in found.texts:
        draw.text((left, top), text, "black", font())
    if found.arrow is not None:
        left, right, y = found.arrow
        draw.line((left, y, right, y), "black", 2)
        draw.polygon([(right, y), (right - 10, y - 5), (right - 10, y + 5)], "black")
        if at is not None:
            x = left + at * (right - 10 - left)
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), "black")
    return canvas


@functools.cache
def font() -> ImageFont.FreeTypeFont:
    """Load the DejaVu Sans that ships with matplotlib, which has Greek letters and ∞."""
    # A string, because Pillow 10.1 does not accept a `Path`.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), FONT_SIZE)


def length(text: str) -> int:
    """Return the width of a line of text in pixels."""
    return math.ceil(font().getlength(text))


def line_height() -> int:
    """Return the distance between lines of text in pixels."""
    return sum(font().getmetrics())


def broken(text: str, width: int) -> list[str]:
    """Break a text into lines of at most this width, at spaces, or within a word that is too wide by itself."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and length(f"{line} {word}") <= width:
                line = f"{line} {word}"
                continue
            lines += [line] * bool(line)
            line = word
            while length(line) > width and len(line) > 1:
                fits = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or length(line[:n]) <= width)
                lines.append(line[:fits])
                line = line[fits:]
        lines += [line] * bool(line)
    return lines


def to_pixels(
    images: Integer[np.ndarray, "n height width channels"] | Float[np.ndarray, "n height width channels"], levels: int
) -> UInt8[np.ndarray, "n height width channels"]:
    """Scale integers 0 … levels − 1, or real values in [−1, 1], to 0 … 255. Raises ValueError as `grid` does."""
    _check_images("images", images, 4)
    return _to_bytes(images) if levels == REAL else _scaled(images, levels)


def _spread(num: int, shown: int) -> list[int]:
    """Choose at most `shown` of the indices 0 … num − 1, evenly spaced and including both ends."""
    return np.unique(np.rint(np.linspace(0, num - 1, min(num, shown))).astype(int)).tolist()


def _fitting(names: Sequence[str], pitch: float) -> int:
    """Return the largest number of names that do not touch when spread over columns this far apart."""
    widest = max(length(part) for name in names for part in name.split("\n")) + MARGIN
    # Names at the edges are moved inside, and so come closer to their neighbors.
    needed = widest + max(0, widest - pitch)
    fits = (n for n in range(len(names), 1, -1) if min(np.diff(_spread(len(names), n))) * pitch >= needed)
    return next(fits, 1)


def _to_bytes(x: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return np.rint((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)


def _scaled(images: Integer[np.ndarray, "*shape"], levels: int) -> UInt8[np.ndarray, "*shape"]:
    if images.min() < 0 or images.max() >= levels:
        raise ValueError(f"images has values from {images.min()} to {images.max()}: must be from 0 to {levels - 1}")
    return np.rint(images.astype(np.float64) * (255 / (levels - 1))).astype(np.uint8)


def write_png(path: Path, picture: Image.Image) -> None:
    """Write the file atomically: it is complete or does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        picture.save(partial, "PNG")


def _check_images(name: str, images: np.ndarray, ndim: int) -> None:
    if images.ndim != ndim or images.size == 0:
        axes = "(kept, batch, height, width, channels)" if ndim == 5 else "(n, height, width, channels)"
        raise ValueError(f"{name} has shape {images.shape}: must be {axes}, each 1 or more")
