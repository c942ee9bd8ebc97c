"""Captions of scikit-learn's digits: class, stroke weight, slant, width, position.

All are measured by moments of the ink, with pixel values (0 to 16) as weights, x to the right and y down, in pixels:

    ink     mean pixel value / 16
    slant   arctan(−cov(x, y) / var(y)), in degrees: how far the ink leans to the right, as if sheared
    width   standard deviation of x
    place   mean of x − 3.5

By its very shape a seven leans to the right and a six to the left, and an eight has more ink. Slant is therefore
relative to the median of the training images of the same class, and weight and width are ratios to their medians
(`USUAL`). Height is not used, since all digits fill the 8 rows. Measurements between two ranges (`RANGES`) are not
mentioned.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from vdm.data.captions.description import Description, Images, Labels, Ranges, Words, worded
from vdm.data.captions.grammar import Grammar

LEVELS = 16
"""The pixel value of full ink."""

INF = float("inf")

USUAL: Mapping[str, tuple[float, ...]] = {
    "ink": (0.3066, 0.3057, 0.3115, 0.2998, 0.3057, 0.3008, 0.3037, 0.2969, 0.3223, 0.3037),
    "slant": (-1.74, -0.70, -8.14, -4.78, 0.39, -0.74, -11.45, 7.78, -0.41, -5.35),
    "width": (1.461, 1.021, 1.245, 1.227, 1.305, 1.253, 1.331, 1.210, 1.187, 1.334),
}
"""Medians over the training images of classes 0 to 9."""

RANGES: Mapping[str, Ranges] = {
    "weight": {"light": (0.0, 0.93), "medium": (0.97, 1.03), "bold": (1.07, INF)},
    "slant": {"left": (-90.0, -3.0), "upright": (-1.2, 1.2), "right": (3.0, 90.0)},
    "width": {"narrow": (0.0, 0.9), "wide": (1.1, INF)},
    "place": {"left": (-INF, -0.3), "right": (0.3, INF)},
}
"""Ranges of: ratio to the median ink; degrees from the median slant; ratio to the median width; pixels."""

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

GRAMMAR = Grammar(
    phrases={
        "class": {str(k): (name, str(k)) for k, name in enumerate(NAMES)},
        "weight": {
            "light": ("light", "thin", "in thin strokes"),
            "medium": ("medium-weight", "of medium weight", "in medium strokes"),
            "bold": ("bold", "heavy", "in heavy strokes"),
        },
        "slant": {
            "left": ("leaning left", "slanted left", "left-leaning", "slanted to the left"),
            "upright": ("standing upright", "straight", "upright"),
            "right": (
                "leaning right",
                "slanted right",
                "right-leaning",
                "leaning to the right",
                "slanted to the right",
            ),
        },
        "width": {"narrow": ("narrow", "slim"), "wide": ("wide", "broad")},
        "place": {"left": ("on the left", "left of centre"), "right": ("on the right", "right of centre")},
    },
    templates=(
        "a[ {weight.0}][ {width.0}] {class.0}[ {slant.0}][, {place.0}]",
        "{class.0}[, {weight.1}][, {width.0}][, {slant.1}][, {place.1}]",
        "a[ {slant.2}][ {width.1}] {class.0}[ {weight.2}][, {place.0}]",
        "the digit {class.1}[, {slant.1}][, {weight.1}][, {width.1}]",
        "a[ {weight.1}] {class.0}",
        "a {class.0}[ {slant.0}]",
    ),
)
"""The last three leave some attributes out, as people do."""


def numbers(images: Images) -> dict[str, Float[np.ndarray, " num"]]:
    """Return ink, slant (degrees), width and place (pixels) of each image; NaN for all but the ink if it has none.

    >>> bar = np.zeros((1, 8, 8, 1), np.uint8)
    >>> bar[0, :, 3] = 16
    >>> {name: values.tolist() for name, values in numbers(bar).items()}
    {'ink': [0.125], 'slant': [0.0], 'width': [0.0], 'place': [-0.5]}
    """
    weights = images[..., 0].astype(np.float64)
    total = weights.sum(axis=(1, 2))
    y, x = np.mgrid[: images.shape[1], : images.shape[2]].astype(np.float64)
    p = weights / np.where(total > 0, total, np.nan)[:, None, None]

    def mean(values: np.ndarray) -> np.ndarray:
        return (p * values).sum(axis=(1, 2))

    mean_x, mean_y = mean(x), mean(y)
    dx, dy = x - mean_x[:, None, None], y - mean_y[:, None, None]
    return {
        "ink": total / (LEVELS * x.size),
        # + 0.0 turns −0.0 into 0.0
        "slant": np.degrees(np.arctan2(-mean(dx * dy), mean(dy * dy))) + 0.0,
        "width": np.sqrt(mean(dx * dx)),
        "place": mean_x - (images.shape[2] - 1) / 2,
    }


def measured(images: Images, labels: Labels | None) -> Words:
    """Return the attributes of images (N, 8, 8, 1) with 17 levels. Raises ValueError if `labels` is None."""
    if labels is None:
        raise ValueError("labels=None: must be classes, since slant and weight are relative to class medians")
    found = numbers(images)
    usual = {name: np.array(medians)[labels] for name, medians in USUAL.items()}
    relative = {
        "weight": found["ink"] / usual["ink"],
        "slant": found["slant"] - usual["slant"],
        "width": found["width"] / usual["width"],
        "place": found["place"],
    }
    of_class = {"class": np.array([str(k) for k in range(len(NAMES))])[labels]}
    return of_class | {name: worded(values, RANGES[name]) for name, values in relative.items()}


DIGITS = Description(measured, GRAMMAR)
