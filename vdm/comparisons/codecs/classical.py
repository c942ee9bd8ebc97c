"""Classical lossless image coders: which are available, and the bytes they need.

PNG, WebP, deflate and LZMA come with Pillow and Python. The others come with `imagecodecs` (`pip install vdm[codecs]`).
Each is set to its best compression and to the smallest possible container.
"""

import importlib
import importlib.metadata
import io
import lzma
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, features

Picture = UInt8[np.ndarray, "rows columns"] | UInt8[np.ndarray, "rows columns 3"] | UInt8[np.ndarray, "rows columns 4"]
"""A gray picture, or one with 3 or 4 channels."""

LONGEST_SIDE = 16_383
"""Maximum side length of a WebP picture in pixels."""


class Coder(NamedTuple):
    """A lossless coder of pictures."""

    encode: Callable[[Picture], bytes]
    decode: Callable[[bytes, int], Any]
    """(bytes, number of axes) -> the picture, or its raw bytes in order."""
    missing: Callable[[], str | None]
    """Return what the coder needs that is not installed here; None if it is ready to use."""


@dataclass(frozen=True)
class Outcome:
    """The result of a coder on a set of images."""

    name: str
    files: int | None
    """Total bytes with one file per image; None if that failed."""
    picture: int | None
    """Bytes of all images as a single picture, in the smaller of its layouts."""
    columns: int
    """Columns of images in that picture; 0 if there is none."""
    problem: str
    """What is missing, or why it failed; empty if nothing went wrong."""

    @property
    def smallest(self) -> int | None:
        """Bytes for the set in the more compact of the two ways."""
        return min((size for size in (self.files, self.picture) if size is not None), default=None)


def measured(name: str, coder: Coder, images: UInt8[np.ndarray, "num height width channels"]) -> Outcome:
    """Code the images, decode and compare them, and return the bytes needed; failures are reported, not raised."""
    if missing := coder.missing():
        return Outcome(name, None, None, 0, f"not installed: {missing}")
    files, problem = _size(coder, [as_picture(image) for image in images])
    pictures: dict[int, int] = {}
    for columns in layouts(images):
        size, failed = _size(coder, [as_picture(tiled(images, columns))])
        problem = problem or failed
        if size is not None:
            pictures[columns] = size
    best = min(pictures, key=lambda columns: pictures[columns], default=0)
    return Outcome(name, files, pictures.get(best), best, problem)


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that sizes depend on; None for one that is not installed."""

    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in ("pillow", "imagecodecs")}


def _size(coder: Coder, pictures: Sequence[Picture]) -> tuple[int | None, str]:
    """Return (total bytes, "") or (None, what went wrong)."""
    total = 0
    try:
        for picture in pictures:
            code = coder.encode(picture)
            back = coder.decode(code, picture.ndim)
            if (back if isinstance(back, bytes) else np.asarray(back, np.uint8).tobytes()) != picture.tobytes():
                return None, "not lossless on these images"
            total += len(code)
    except (RuntimeError, ValueError, OSError) as error:
        return None, f"failed: {' '.join(str(error).split())[:80]}"
    return total, ""


def as_picture(image: UInt8[np.ndarray, "height width channels"]) -> Picture:
    """Return the image in a form that coders accept; channels other than 1, 3 or 4 are placed side by side in gray.

    >>> as_picture(np.zeros((8, 8, 1), np.uint8)).shape, as_picture(np.zeros((8, 8, 2), np.uint8)).shape
    ((8, 8), (8, 16))
    """
    height, width, channels = image.shape
    if channels in (3, 4):
        return np.ascontiguousarray(image)
    return np.ascontiguousarray(np.moveaxis(image, 2, 1).reshape(height, channels * width))


def tiled(
    images: UInt8[np.ndarray, "num height width channels"], columns: int
) -> UInt8[np.ndarray, "rows_height columns_width channels"]:
    """Tile all images into one, row by row; unused tiles in the last row are black.

    >>> tiled(np.ones((5, 8, 8, 1), np.uint8), 2).shape
    (24, 16, 1)
    """
    num, height, width, channels = images.shape
    rows = -(-num // columns)
    grid = np.zeros((rows * columns, height, width, channels), np.uint8)
    grid[:num] = images
    grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)


def layouts(images: UInt8[np.ndarray, "num height width channels"]) -> list[int]:
    """Return the numbers of columns to try: one for a square layout, and 1, unless that would be too tall for WebP."""
    num, height, *_ = images.shape
    square = int(np.ceil(np.sqrt(num)))
    return sorted({square, *([1] if num * height <= LONGEST_SIDE else [])})


def _pillow(format: str, feature: str, **options: Any) -> Coder:
    def encode(picture: Picture) -> bytes:
        out = io.BytesIO()
        Image.fromarray(picture).save(out, format=format, **options)
        return out.getvalue()

    def decode(code: bytes, ndim: int) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(code)))

    return Coder(encode, decode, lambda: None if features.check(feature) else f"Pillow without {format}")


def _webp() -> Coder:
    coder = _pillow("WEBP", "webp", lossless=True, quality=100, method=6, exact=True)

    # WebP has only pictures with three or four channels; it codes three identical ones as one.
    def encode(picture: Picture) -> bytes:
        return coder.encode(np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture)

    def decode(code: bytes, ndim: int) -> np.ndarray:
        picture = np.asarray(coder.decode(code, 3))
        return picture[..., 0] if ndim == 2 else picture

    return coder._replace(encode=encode, decode=decode)


def _imagecodecs(codec: str, **options: Any) -> Coder:
    """Return the coder made of imagecodecs' functions CODEC_encode and CODEC_decode."""

    def function(kind: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(importlib.import_module("imagecodecs"), f"{codec}_{kind}")
        return found

    def missing() -> str | None:
        try:
            library: Any = importlib.import_module("imagecodecs")
        except ImportError:
            return "imagecodecs"
        has = getattr(getattr(library, codec.upper(), None), "available", False)
        return None if has else f"imagecodecs without {codec.upper()}"

    return Coder(
        lambda picture: bytes(function("encode")(picture, **options)),
        lambda code, ndim: function("decode")(code),
        missing,
    )


def _deflate() -> Coder:
    def encode(picture: Picture) -> bytes:
        stream = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
        return stream.compress(picture.tobytes()) + stream.flush()

    return Coder(encode, lambda code, ndim: zlib.decompress(code, -15), lambda: None)


def _lzma() -> Coder:
    def filters(dict_size: int) -> list[dict[str, int]]:
        return [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dict_size, "lc": 0, "pb": 0}]

    # Allocating the preset's 64 MB dictionary takes longer than coding a small picture.
    return Coder(
        lambda picture: lzma.compress(picture.tobytes(), lzma.FORMAT_RAW, filters=filters(max(picture.size, 1 << 12))),
        lambda code, ndim: lzma.decompress(code, lzma.FORMAT_RAW, filters=filters(1 << 26)),
        lambda: None,
    )


CODERS: dict[str, Coder] = {
    "PNG": _pillow("PNG", "zlib", optimize=True),
    "WebP": _webp(),
    "JPEG XL": _imagecodecs("jpegxl", lossless=True, effort=9, usecontainer=False),
    "JPEG-LS": _imagecodecs("jpegls", level=0),
    "JPEG 2000": _imagecodecs("jpeg2k", level=0, codecformat="j2k", reversible=True),
    "AVIF": _imagecodecs("avif", level=100, speed=0),
    "deflate": _deflate(),
    "LZMA": _lzma(),
}
"""The classical coders, by name."""
