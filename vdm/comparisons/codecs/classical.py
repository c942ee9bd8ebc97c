"""Classical lossless coders of images: what can be had of them here, and the bytes that they take.

PNG, WebP, deflate and LZMA are Pillow's and Python's own. The others are those of `imagecodecs` (`pip install
vdm[codecs]`). Each is set to its best compression, and writes as little of a container as it can.
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
"""Grey, or of 3 or 4 channels."""

LONGEST_SIDE = 16_383
"""Of a picture of WebP."""


class Coder(NamedTuple):
    """A lossless coder of pictures."""

    encode: Callable[[Picture], bytes]
    decode: Callable[[bytes, int], Any]
    """Back to the picture of so many axes, or to its bytes in their order."""
    missing: Callable[[], str | None]
    """What it needs that is not installed here; None if it can be used."""


@dataclass(frozen=True)
class Outcome:
    """What a coder makes of a set of images."""

    name: str
    files: int | None
    """Bytes of a file an image, all together; None where that failed."""
    picture: int | None
    """Bytes of all images in one picture, in the smaller of its layouts."""
    columns: int
    """Of that picture; 0 of none."""
    problem: str
    """What is missing, or why it failed; empty if nothing did."""

    @property
    def smallest(self) -> int | None:
        """Bytes of the set in the way that takes fewest."""
        return min((size for size in (self.files, self.picture) if size is not None), default=None)


def measured(name: str, coder: Coder, images: UInt8[np.ndarray, "num height width channels"]) -> Outcome:
    """The bytes that a coder takes for these images, decoded and compared; what fails is said, and raises nothing."""
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
    """Of the packages that sizes depend on; None of one that is not installed."""

    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in ("pillow", "imagecodecs")}


def _size(coder: Coder, pictures: Sequence[Picture]) -> tuple[int | None, str]:
    """(bytes of all, "") or (None, what is wrong)."""
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
    """The image as coders take one: of another number of channels than 1, 3 and 4, these are side by side, grey.

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
    """All images in one, row by row; what is left of the last row is black.

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
    """Columns of the pictures that are tried: about as many as rows, and one, where that is no taller than allowed."""
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

    # It has pictures of three and four channels only. Of three that are the same it codes one.
    def encode(picture: Picture) -> bytes:
        return coder.encode(np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture)

    def decode(code: bytes, ndim: int) -> np.ndarray:
        picture = np.asarray(coder.decode(code, 3))
        return picture[..., 0] if ndim == 2 else picture

    return coder._replace(encode=encode, decode=decode)


def _imagecodecs(codec: str, **options: Any) -> Coder:
    """Its functions CODEC_encode and CODEC_decode."""

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

    # A dictionary of the preset's 64 MB takes longer to make than a small picture to code.
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
"""By name."""
