"""Disjoint parts of the real images: a metric between them is its noise floor."""

import numpy as np
from jaxtyping import Integer

Indices = Integer[np.ndarray, " _"]


def disjoint(total: int, num: int, seed: int = 0) -> tuple[Indices, Indices]:
    """Return the sorted indices of `num` of `total` images chosen at random (at most half of them), and of the others.

    >>> part, rest = disjoint(10, 3)
    >>> len(part), sorted([*part.tolist(), *rest.tolist()]) == list(range(10))
    (3, True)
    """
    order = np.random.default_rng(seed).permutation(total)
    count = min(num, total // 2)
    return np.sort(order[:count]), np.sort(order[count:])
