"""Pictures of images: grids, strips and animations, as PNG and GIF files.

Every function takes any number of channels: 1 is drawn grey and 3 in colour; of 2 the first is drawn, of more than 3
the first three. Small images are enlarged by a whole factor, each pixel a square, and stand apart by `GUTTER` pixels.
Folders are made where missing.
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image

from vdm.files import replacing

GUTTER = 2
"""Pixels between the images of a grid and around it."""
GUTTER_VALUE = 255
"""Their grey value."""
SHORT_SIDE = 512
"""Tiny images are enlarged until the shorter side of the picture has at least so many pixels."""
FRAME_MILLISECONDS = 120
LAST_FRAME_MILLISECONDS = 2500


def grid(images: Integer[np.ndarray, "n height width channels"], path: Path, levels: int) -> None:
    """Writes one PNG: the images row by row in a near-square grid, values 0 … levels−1 scaled to 0 … 255.

    Raises ValueError where `images` is not such an array or is empty.
    """
    _check_images("images", images, 4)
    if images.min() < 0 or images.max() >= levels:
        raise ValueError(f"images has values from {images.min()} to {images.max()}: must be from 0 to {levels - 1}")
    values = np.rint(images.astype(np.float64) * (255 / (levels - 1))).astype(np.uint8)
    _write(path, [tile(values, math.ceil(math.sqrt(len(images))))])


def strip(frames: Float[np.ndarray, "kept batch height width channels"], path: Path) -> None:
    """Writes one PNG with a row for each image and a column for each kept time, left the noisiest; values in [−1, 1].

    Values beyond ±1 are clipped. Raises ValueError where `frames` is not such an array or is empty.
    """
    _check_images("frames", frames, 5)
    by_image = np.swapaxes(_to_bytes(frames), 0, 1)
    _write(path, [tile(by_image.reshape(-1, *frames.shape[2:]), len(frames))])


def animation(frames: Float[np.ndarray, "kept batch height width channels"], path: Path) -> None:
    """Writes one GIF, a near-square grid of the images at each kept time; it holds the last and starts again.

    Values are in [−1, 1], clipped beyond. Equal neighbouring frames are stored once, shown as long as all of them.
    Raises ValueError where `frames` is not such an array or is empty.
    """
    _check_images("frames", frames, 5)
    columns = math.ceil(math.sqrt(frames.shape[1]))
    _write(path, [tile(values, columns) for values in _to_bytes(frames)])


def tile(
    images: UInt8[np.ndarray, "n height width channels"], columns: int
) -> UInt8[np.ndarray, "rows_height columns_width drawn"]:
    """One picture of the images, row by row, with gutters; 1 or 3 channels. Places left over look like gutter."""
    images = images[..., : 3 if images.shape[-1] >= 3 else 1]
    num, height, width, channels = images.shape
    rows = math.ceil(num / columns)
    scale = max(1, math.ceil(SHORT_SIDE / min(rows * height, columns * width)))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = scale * height + GUTTER, scale * width + GUTTER
    picture = np.full((rows * height + GUTTER, columns * width + GUTTER, channels), GUTTER_VALUE, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * height + GUTTER, (i % columns) * width + GUTTER
        picture[top : top + image.shape[0], left : left + image.shape[1]] = image
    return picture


def _to_bytes(x: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return np.rint((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)


def _write(path: Path, pictures: list[UInt8[np.ndarray, "height width channels"]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = (Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in pictures)
    with replacing(path) as partial:
        if path.suffix == ".gif":
            durations = [FRAME_MILLISECONDS] * len(rest) + [LAST_FRAME_MILLISECONDS]
            first.save(partial, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
        else:
            first.save(partial, "PNG")


def _check_images(name: str, images: np.ndarray, ndim: int) -> None:
    if images.ndim != ndim or images.size == 0:
        axes = "(kept, batch, height, width, channels)" if ndim == 5 else "(n, height, width, channels)"
        raise ValueError(f"{name} has shape {images.shape}: must be {axes}, each 1 or more")
