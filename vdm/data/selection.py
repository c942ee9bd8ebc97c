"""Which images are used where not all are: a random sample over the whole split, the same every time.

Splits are often sorted, by class or by photograph, so their first images are of one kind. The sample depends on the
number of images alone: runs of every seed are measured on the same ones, and a smaller sample is part of a larger one.
"""

from typing import Any

import numpy as np
from jaxtyping import Integer

VERSION = 1
"""Of the rule by which images are chosen here; those that another rule had chosen have another, or none."""

CHOICE = f"random sample {VERSION}"
"""What results say of images chosen here."""


def order(total: int) -> Integer[np.ndarray, " total"]:
    """All indices of `total` images in the order in which they are chosen."""
    return np.random.default_rng(0).permutation(total)


def selected(total: int, num: int) -> Integer[np.ndarray, " num"]:
    """The indices, increasing, of `num` of `total` images; of all for 0, or where there are no more.

    >>> selected(4, 0)
    array([0, 1, 2, 3])
    >>> set(selected(1000, 10)) < set(selected(1000, 100))
    True
    """
    if num < 0:
        raise ValueError(f"num={num}: must be 0 (all) or more")
    return np.sort(order(total)[:num]) if 0 < num < total else np.arange(total)


def record(num: int, total: int) -> dict[str, Any]:
    """What results say of the images that they are of.

    >>> record(num=100, total=100)
    {'num': 100, 'of': 100, 'choice': 'all'}
    """
    return {"num": num, "of": total, "choice": "all" if num == total else CHOICE}
