"""Captions composed of what is measured on an image: a grammar, measurements of digits and of photographs, sources."""

from vdm.data.captions.description import Description
from vdm.data.captions.digits import DIGITS
from vdm.data.captions.photos import PHOTOS

DESCRIPTIONS = {"digits_captions": DIGITS, "photos32_captions": PHOTOS}
"""By the source whose captions say so."""

__all__ = ["DESCRIPTIONS", "Description"]
