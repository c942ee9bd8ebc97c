"""Captions of crops of photographs: dominant color, brightness, texture.

For pixel values from 0 to 1, the mean color (R, G, B) and the luma Y = 0.299 R + 0.587 G + 0.114 B of an image:

    colour      hue of the mean color, in degrees, if max − min of its channels is at least 0.1; grey, if that is at
                most 0.05
    brightness  mean of Y
    texture     average of the mean |Y − Y of the pixel to the left| and the mean |Y − Y of the pixel above|

Measurements between two ranges (`RANGES`) are not mentioned.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from vdm.data.captions.description import Description, Images, Labels, Ranges, Words, worded
from vdm.data.captions.grammar import Grammar

INF = float("inf")

COLOURFUL, GREY = 0.1, 0.05
"""Chroma (max − min of the channels) at and above which a hue is named; chroma up to which the crop is grey."""

RANGES: Mapping[str, Ranges] = {
    "colour": {
        "red": (-20.0, 14.0),
        "orange": (18.0, 42.0),
        "yellow": (48.0, 70.0),
        "green": (76.0, 160.0),
        "blue": (175.0, 255.0),
        "purple": (265.0, 335.0),
    },
    "brightness": {"dark": (0.0, 0.25), "bright": (0.55, 1.0)},
    "texture": {"smooth": (0.0, 0.01), "rough": (0.04, INF)},
}

COLOURS = (*RANGES["colour"], "grey")

GRAMMAR = Grammar(
    phrases={
        "colour": {name: (name, f"in {name}", f"mostly {name}") for name in COLOURS},
        "brightness": {"dark": ("dark", "dim", "in the dark"), "bright": ("bright", "light", "in bright light")},
        "texture": {"smooth": ("smooth", "plain", "without detail"), "rough": ("rough", "busy", "full of detail")},
    },
    templates=(
        "a[ {brightness.0}][ {texture.0}][ {colour.0}] photograph",
        "a photograph[ {colour.1}][, {brightness.1}][, {texture.1}]",
        "a[ {colour.0}] photograph[ {brightness.2}][, {texture.2}]",
        "a[ {texture.1}] photograph[, {colour.2}][, {brightness.1}]",
        "a[ {colour.0}] photograph",
        "a[ {brightness.1}] photograph[, {texture.2}]",
    ),
)
"""The last two leave some attributes out, as people do."""


def numbers(images: Images) -> dict[str, Float[np.ndarray, " num"]]:
    """Return the hue of the mean color (degrees, −20 to 340), chroma, brightness and texture of 8-bit RGB images.

    >>> sky = np.full((1, 32, 32, 3), (51, 102, 204), np.uint8)
    >>> {name: values.round(3).tolist() for name, values in numbers(sky).items()}
    {'hue': [220.0], 'chroma': [0.6], 'brightness': [0.386], 'texture': [0.0]}
    """
    values = images.astype(np.float64) / 255
    luma = values @ np.array([0.299, 0.587, 0.114])
    mean = values.mean(axis=(1, 2))
    red, green, blue = mean.T
    # The hue on the hexagon that is the RGB cube seen along its gray diagonal.
    chroma = mean.max(axis=1) - mean.min(axis=1)
    top = mean.argmax(axis=1)
    sector = np.choose(top, [green - blue, blue - red, red - green]) / np.where(chroma > 0, chroma, 1)
    hue = 60 * (sector + 2 * top)
    steps = [np.abs(np.diff(luma, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
    return {
        "hue": (hue + 20) % 360 - 20,
        "chroma": chroma,
        "brightness": luma.mean(axis=(1, 2)),
        "texture": (steps[0] + steps[1]) / 2,
    }


def measured(images: Images, labels: Labels | None = None) -> Words:
    """Return the attributes of images (N, H, W, 3) with 256 levels. Labels are not used."""
    found = numbers(images)
    hue = worded(found["hue"], RANGES["colour"])
    colour = np.where(found["chroma"] >= COLOURFUL, hue, np.where(found["chroma"] <= GREY, "grey", ""))
    return {"colour": colour} | {name: worded(found[name], RANGES[name]) for name in ("brightness", "texture")}


PHOTOS = Description(measured, GRAMMAR)
