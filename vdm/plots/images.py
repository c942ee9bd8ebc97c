"""Pictures of images: grids, strips and animations, as PNG and GIF files.

Every function takes any number of channels: 1 is drawn grey and 3 in colour; of 2 the first is drawn, of more than 3
the first three. Small images are enlarged by a whole factor, each pixel a square, and stand apart by `GUTTER` pixels;
the factor depends on the images' shape alone, so pictures of images of one shape have tiles of one size. What the
pictures say of themselves stands around the tiles, on white. Folders are made where missing.
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
"""Pixels between the images of a grid and around it."""
GUTTER_VALUE = 255
"""Their grey value."""
TILE = 96
"""Images are enlarged until their shorter side has so many pixels, …"""
LONGEST_TILE = 384
"""… unless the longer one would then have more than this."""
MAX_COLUMNS = 16
"""Of a strip; of more frames it shows so many, evenly spaced. And of a grid whose rows have names."""
MAX_ROWS = 20
"""With names, of a grid."""
FRAME_MILLISECONDS = 120
LAST_FRAME_MILLISECONDS = 2500
GIF_LIMIT = 65535
"""Pixels a side that the format can count."""
FONT_SIZE = 15
MARGIN = 8
"""Pixels around texts."""
TEXT_WIDTH = 400
"""Captions have at least so many pixels before they are broken into lines."""


class Arrow(NamedTuple):
    """An arrow from left to right under the images."""

    start: str
    """What is at its left end."""
    end: str
    """What is at its point."""


TO_DATA = Arrow("noise", "data")
"""The way of a sampler."""


def grid(
    images: Integer[np.ndarray, "n height width channels"] | Float[np.ndarray, "n height width channels"],
    path: Path,
    levels: int,
    caption: str = "",
    rows: Sequence[str] = (),
) -> None:
    """Writes one PNG: the images row by row in a near-square grid, values 0 … levels−1 scaled to 0 … 255; real
    ones from −1 to 1, clipped beyond.

    With names of `rows`, at most `MAX_ROWS`, image k is in row k modulo their number; a row of more than `MAX_COLUMNS`
    images goes on in lines below. Raises ValueError where `images` is not such an array or is empty.
    """
    values = to_pixels(images, levels)
    columns, names = columns_of(images.shape), tuple[str, ...]()
    if 1 <= len(rows) <= min(MAX_ROWS, len(images)):
        of_row = -(-len(images) // len(rows))
        lines = -(-of_row // MAX_COLUMNS)
        columns = -(-of_row // lines)
        names = tuple(text for name in rows for text in (name, *[""] * (lines - 1)))
        # Places left over look like gutter.
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
    """Writes one PNG with a row for each image and a column for each kept time, left the noisiest; values in [−1, 1].

    Values beyond ±1 are clipped. `columns` and `rows` are names of all of them. Of more than `MAX_COLUMNS` frames so
    many are shown, the first and the last among them. Raises ValueError where `frames` is not such an array, or empty.
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
    """Writes one GIF, a near-square grid of the images at each kept time; it holds the last and starts again.

    Values are in [−1, 1], clipped beyond. `names` are those of all times, shown with the caption; a dot on the arrow is
    where the frame is. Equal neighbouring frames are stored once, shown as long as all of them. Raises ValueError where
    `frames` is not such an array or is empty, and for pictures of more than `GIF_LIMIT` pixels a side.
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
        raise ValueError(f"frames make pictures of {size} pixels: a GIF has at most {GIF_LIMIT} a side")
    durations = [FRAME_MILLISECONDS] * (len(pictures) - 1) + [LAST_FRAME_MILLISECONDS]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        rest = pictures[1:]
        pictures[0].save(partial, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)


def columns_of(shape: Sequence[int]) -> int:
    """How many columns make a near-square picture of images of the shape (n, height, width, channels)."""
    num, height, width, *_ = shape
    return min(num, max(1, math.ceil(math.sqrt(num * height / width))))


def scale_of(height: int, width: int) -> int:
    """By which factor images of this size are enlarged."""
    low, high = sorted((height, width))
    return max(1, min(math.ceil(TILE / low), LONGEST_TILE // high))


def tile(
    images: UInt8[np.ndarray, "n height width channels"], columns: int
) -> UInt8[np.ndarray, "rows_height columns_width drawn"]:
    """One picture of the images, row by row, with gutters; 1 or 3 channels. Places left over look like gutter."""
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
    """A line of text and where it is drawn."""

    text: str
    left: int
    top: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom)."""
        return self.left, self.top, self.left + length(self.text), self.top + line_height()


class Layout(NamedTuple):
    """Where everything is on a picture."""

    size: tuple[int, int]
    """(width, height)."""
    tiles: tuple[int, int]
    """(left, top) of the images."""
    texts: list[Text]
    arrow: tuple[int, int, int] | None
    """(left, right, y)."""


def layout(
    tiles: tuple[int, int],
    num_rows: int,
    num_columns: int,
    caption: str = "",
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    arrow: Arrow | None = None,
) -> Layout:
    """Places around tiles of this (width, height): the caption above, broken into lines where it is too long; names of
    columns above, as many as there is room for, of several lines where they have some; names of rows on the left; an
    arrow below."""
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
                # At the edges inside.
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
    """A picture of `tile` with its texts around it, and a dot at the fraction `at` of the arrow."""
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
    """Matplotlib's own DejaVu Sans, which has Greek letters and ∞."""
    # As a text: Pillow 10.1 takes no `Path`.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), FONT_SIZE)


def length(text: str) -> int:
    """Pixels of a line of text."""
    return math.ceil(font().getlength(text))


def line_height() -> int:
    """Pixels from one line of text to the next."""
    return sum(font().getmetrics())


def broken(text: str, width: int) -> list[str]:
    """Lines no wider than this, broken at spaces, or within a word that is wider itself."""
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
    """Values 0 … levels−1, or real ones from −1 to 1, as 0 … 255. Raises ValueError as `grid` does."""
    _check_images("images", images, 4)
    return _to_bytes(images) if levels == REAL else _scaled(images, levels)


def _spread(num: int, shown: int) -> list[int]:
    """So many of 0 … num − 1, or all if they are no more: evenly spaced, both ends among them."""
    return np.unique(np.rint(np.linspace(0, num - 1, min(num, shown))).astype(int)).tolist()


def _fitting(names: Sequence[str], pitch: float) -> int:
    """Of how many names, spread over places this far apart, none touches its neighbour."""
    widest = max(length(part) for name in names for part in name.split("\n")) + MARGIN
    # Those at the edges, where they would stick out, are moved inside.
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
    """The file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        picture.save(partial, "PNG")


def _check_images(name: str, images: np.ndarray, ndim: int) -> None:
    if images.ndim != ndim or images.size == 0:
        axes = "(kept, batch, height, width, channels)" if ndim == 5 else "(n, height, width, channels)"
        raise ValueError(f"{name} has shape {images.shape}: must be {axes}, each 1 or more")
