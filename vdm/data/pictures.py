"""Read one picture file: its pixels as a viewer shows them, or an error that says in one line why it is refused."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vdm.errors import InputError, one_line
from vdm.files import printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""File suffixes of pictures, in upper or lower case."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
"""Accepted formats, whatever the suffix. Others may exceed 8 bits per channel, which Pillow truncates silently."""

CHANNELS = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB"}
"""The mode that a picture is converted to (gray or RGB), by its mode in Pillow."""

PNG_DEPTH = 24
"""Offset of a PNG's bit depth: after the signature (8 bytes), chunk length, chunk type, width, height (4 each)."""


class Picture(NamedTuple):
    """A picture read from a file."""

    pixels: np.ndarray
    """uint8 (H, W, C)."""
    content: bytes
    """The raw bytes of the file."""
    animated: bool
    """Whether the file has more frames than this first one."""


def read(file: Path, shape: tuple[int, ...] | None = None) -> Picture:
    """Read a picture as uint8: gray pictures have one channel; all others, including palettes, become RGB.

    EXIF orientation is applied; of an animation, the first frame is used. Raises `InputError`, naming the file, for
    anything but a complete picture in one of the `FORMATS`; for pixels that 8-bit gray or RGB cannot represent (more
    than 8 bits per channel, CMYK, transparency); and for a shape other than `shape`, if that is given.
    """
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.verify()  # checks the checksums, which decoding ignores
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            bits = content[PNG_DEPTH] if image.format == "PNG" else 8
            if bits > 8 or image.mode not in CHANNELS:
                found = f"{bits} bits per channel" if bits > 8 else f"pixels of mode {image.mode}"
                raise InputError(f"{printable(file)}: {found}; must be 8-bit: gray, RGB or with a palette")
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise InputError(f"{printable(file)}: has transparent pixels; put it on a background first")
            animated = image.format != "MPO" and getattr(image, "is_animated", False)
            upright = _upright(image.convert(CHANNELS[image.mode]))
            pixels = np.asarray(upright).reshape(upright.height, upright.width, -1)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{printable(file)}: not a readable picture: none of {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, …
        raise InputError(f"{printable(file)}: not a readable picture: {one_line(error)}") from None
    if shape not in (None, pixels.shape):
        found, needed = describe(pixels.shape), describe(shape)
        raise InputError(f"{printable(file)}: {found}, but others are {needed}; all must be the same")
    return Picture(pixels, content, animated)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF data: keep the orientation
        return image


def describe(shape: tuple[int, ...]) -> str:
    """Describe a shape in words, width first: "32×32 with 3 channels"."""
    height, width, channels = shape
    return f"{width}×{height} with {channels} channel{'s' if channels > 1 else ''}"
