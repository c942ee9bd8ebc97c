"""What captions of a kind of images say: measurements, and the grammar that words them."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8

from vdm.data.captions.grammar import Grammar

Images = UInt8[np.ndarray, "num height width channels"]
Labels = Integer[np.ndarray, " num"]
Words = Mapping[str, np.ndarray]
"""By attribute, of each image its value, a text; "" where it is between two values, and nothing is said of it."""
Ranges = Mapping[str, tuple[float, float]]
"""Of each value the lowest and the highest number that it is said of."""


class Description(NamedTuple):
    """Attributes of images that captions say and that samples are measured by."""

    measured: Callable[[Images, Labels | None], Words]
    """(images, labels) -> the values of each. Labels, where they are needed, are those that images have or should
    have, or a classifier's."""
    grammar: Grammar

    def captions(self, images: Images, labels: Labels | None = None) -> list[tuple[str, ...]]:
        """All sentences of each image; the first says all that is to be said of it."""
        values = self.measured(images, labels)
        rows = [dict(zip(values, row, strict=True)) for row in np.stack([*values.values()], axis=1).tolist()]
        return [self.grammar.captions(row) for row in rows]

    def obeyed(self, text: str | Sequence[str], images: Images, labels: Labels | None = None) -> dict[str, np.ndarray]:
        """Of each attribute whether images are as a text asks, or each as its own: 1.0, 0.0, or NaN where not asked.

        By the measurements that captions are made of; `labels` are a classifier's.
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
    """The value whose range each number is in, ends included; "" of others, and of NaN.

    >>> worded(np.array([0.1, 0.4, 0.9, np.nan]), {"low": (-np.inf, 0.3), "high": (0.7, np.inf)}).tolist()
    ['low', '', 'high', '']
    """
    found = np.full(len(numbers), "", dtype=f"U{max(map(len, ranges))}")
    for value, (low, high) in ranges.items():
        found[(numbers >= low) & (numbers <= high)] = value
    return found
