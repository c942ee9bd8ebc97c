"""Captions composed from measurements on the image: a grammar, the measurements, and the data sets that use them."""

from vdm.data.captions.description import Description
from vdm.data.captions.digits import DIGITS
from vdm.data.captions.photos import PHOTOS

DESCRIPTIONS = {"digits_captions": DIGITS, "photos32_captions": PHOTOS}
"""Caption descriptions, by the name of the data source that uses them."""

__all__ = ["DESCRIPTIONS", "Description"]
