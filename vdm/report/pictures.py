"""Pictures inside a page: PNG or WebP as data URIs of limited size."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vdm.errors import InputError
from vdm.reading import read_bytes

MOST_BYTES = 120_000
"""Limit on one picture before base64 encoding; larger pictures are shrunk."""
SMALLEST = 200
"""Pictures whose longer side is at most this many pixels are not shrunk further."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Picture(NamedTuple):
    """A picture of a run."""

    title: str
    """Title on the page, e.g. "step 500"."""
    uri: str
    """The encoded picture: data:image/…;base64,…"""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    step: int | None = None
    """Training step at which it was drawn, if its file name says so."""


def picture(path: Path, title: str, step: int | None = None) -> Picture:
    """Encode a small PNG file as it is, and others as WebP: losslessly, or shrunk until they are below `MOST_BYTES`.

    Raises `InputError` for a file that is missing or not a picture.
    """
    content = read_bytes(path)
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            image = opened.convert("RGBA" if "transparency" in opened.info else "RGB")
    # Pillow may raise any exception for a damaged file.
    except Exception as error:
        raise InputError(f"{path}: not a readable picture") from error
    if content.startswith(SIGNATURE) and len(content) <= MOST_BYTES // 4:
        return Picture(title, _uri("png", content), *image.size, step)
    size, encoded = image.size, _webp(image, lossless=True)
    while len(encoded) > MOST_BYTES and max(image.size) > SMALLEST:
        encoded = _webp(image, lossless=False)
        if len(encoded) > MOST_BYTES:
            image = image.resize([max(1, side * 3 // 4) for side in image.size], Image.Resampling.LANCZOS)
    return Picture(title, _uri("webp", encoded), *size, step)


def evenly(items: list[Path], most: int) -> list[Path]:
    """Return at most `most` of the items, evenly spaced and including the first and the last.

    >>> [path.name for path in evenly([Path(name) for name in "abcdefg"], 3)]
    ['a', 'd', 'g']
    """
    if len(items) <= most:
        return items
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def _webp(image: Image.Image, lossless: bool) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=lossless, quality=80, method=4)
    return file.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
