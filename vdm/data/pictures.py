"""One picture file: its pixels as a person sees them, or one line that says why they cannot be had."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vdm.errors import InputError, one_line
from vdm.files import printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""Of files that are taken for pictures, in any case."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
"""What they may hold, whatever their suffix. Others can have more than 8 bits, which Pillow cuts without a word."""

CHANNELS = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB"}
"""By Pillow's mode, what a picture becomes: grey or RGB."""

PNG_DEPTH = 24
"""Where a PNG says how many bits a channel has: signature (8 bytes), length, type, width, height (4 each)."""


class Picture(NamedTuple):
    """A picture as read from its file."""

    pixels: np.ndarray
    """uint8 (H, W, C)."""
    content: bytes
    """The file's."""
    animated: bool
    """Whether there are more frames than this first one."""


def read(file: Path, shape: tuple[int, ...] | None = None) -> Picture:
    """The picture in a file: grey ones have one channel, all others, palettes too, become RGB.

    Turned as its EXIF data say. Of an animation the first frame. Raises `InputError`, naming the file, for what is no
    whole picture of `FORMATS`, for pixels that uint8 grey or RGB would not keep (more than 8 bits a channel, CMYK, and
    those that one can see through), and for another shape than the one given.
    """
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.verify()  # checksums, where there are any: decoding looks at none
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            bits = content[PNG_DEPTH] if image.format == "PNG" else 8
            if bits > 8 or image.mode not in CHANNELS:
                found = f"{bits} bits a channel" if bits > 8 else f"pixels of mode {image.mode}"
                raise InputError(f"{printable(file)}: {found}; needed are 8-bit pictures, grey, RGB or with a palette")
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise InputError(f"{printable(file)}: one can see through it; put it on a background first")
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
    except Exception:  # EXIF data that cannot be read turn nothing
        return image


def describe(shape: tuple[int, ...]) -> str:
    """32×32 with 3 channels: width first, as people say it."""
    height, width, channels = shape
    return f"{width}×{height} with {channels} channel{'s' if channels > 1 else ''}"
