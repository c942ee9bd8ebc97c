"""The choice of images where not all are used: a random sample of the whole split, the same every time.

Splits are often sorted by class or photograph, so their first images are not representative. The sample depends only
on the number of images: runs with different seeds are measured on the same images, and a smaller sample is a subset of
a larger one.
"""

from typing import Any

import numpy as np
from jaxtyping import Integer

VERSION = 1
"""Version of the selection rule; results from images chosen by another rule have a different version, or none."""

CHOICE = f"random sample {VERSION}"
"""How results describe images chosen by this rule."""


def order(total: int) -> Integer[np.ndarray, " total"]:
    """Return all indices of `total` images in the order in which they are selected."""
    return np.random.default_rng(0).permutation(total)


def selected(total: int, num: int) -> Integer[np.ndarray, " num"]:
    """Return the sorted indices of `num` images out of `total`; all of them if `num` is 0 or at least `total`.

    >>> selected(4, 0)
    array([0, 1, 2, 3])
    >>> set(selected(1000, 10)) < set(selected(1000, 100))
    True
    """
    if num < 0:
        raise ValueError(f"num={num}: must be 0 (all) or more")
    return np.sort(order(total)[:num]) if 0 < num < total else np.arange(total)


def record(num: int, total: int) -> dict[str, Any]:
    """Describe, for a result, which images it was computed on.

    >>> record(num=100, total=100)
    {'num': 100, 'of': 100, 'choice': 'all'}
    """
    return {"num": num, "of": total, "choice": "all" if num == total else CHOICE}
