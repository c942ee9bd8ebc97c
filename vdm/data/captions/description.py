"""Descriptions of a kind of images: measured attributes, and the grammar that puts them into words."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8

from vdm.data.captions.grammar import Grammar

Images = UInt8[np.ndarray, "num height width channels"]
Labels = Integer[np.ndarray, " num"]
Words = Mapping[str, np.ndarray]
"""The values of all images, by attribute; "" if a measurement lies between two values and is left unsaid."""
Ranges = Mapping[str, tuple[float, float]]
"""The lowest and highest measurement for which each value is used."""


class Description(NamedTuple):
    """The attributes that captions mention, and that samples are checked against."""

    measured: Callable[[Images, Labels | None], Words]
    """Measure images: (images, labels) -> values by attribute. Labels, where needed, are the classes of the images:
    true ones, intended ones, or a classifier's predictions."""
    grammar: Grammar

    def captions(self, images: Images, labels: Labels | None = None) -> list[tuple[str, ...]]:
        """Return all sentences for each image; the first mentions everything that can be said about it."""
        values = self.measured(images, labels)
        rows = [dict(zip(values, row, strict=True)) for row in np.stack([*values.values()], axis=1).tolist()]
        return [self.grammar.captions(row) for row in rows]

    def obeyed(self, text: str | Sequence[str], images: Images, labels: Labels | None = None) -> dict[str, np.ndarray]:
        """Whether each image shows what its text asks for: by attribute, 1.0, 0.0, or NaN if not asked for.

        `text` is one caption for all images, or one per image. Uses the same measurements as the captions; `labels` are
        a classifier's predictions.
        """
        texts = [text] * len(images) if isinstance(text, str) else text
        asked = [self.grammar.attributes_of(each) for each in texts]
        found = self.measured(images, labels)
        return {
            name: np.array(
                [
                    np.nan if each[name] is None else float(each[name] == value)
                    for each, value in zip(asked, values.tolist(), strict=True)
                ]
            )
            for name, values in found.items()
        }


def worded(numbers: Float[np.ndarray, " num"], ranges: Ranges) -> np.ndarray:
    """Return the value whose range (ends included) contains each number; "" if there is none, and for NaN.

    >>> worded(np.array([0.1, 0.4, 0.9, np.nan]), {"low": (-np.inf, 0.3), "high": (0.7, np.inf)}).tolist()
    ['low', '', 'high', '']
    """
    found = np.full(len(numbers), "", dtype=f"U{max(map(len, ranges))}")
    for value, (low, high) in ranges.items():
        found[(numbers >= low) & (numbers <= high)] = value
    return found
