"""The guidance `composed`: several labels or captions, each with a weight. The mathematics is in `vdm.composition`."""

import numpy as np

from vdm import composition, guidance
from vdm.guides import MOST, Guide, Numbers, Scene, another, dropped, own, several
from vdm.predictions import Denoise


def composed(others: tuple[str, ...] | tuple[int, ...] = (), weights: tuple[float, ...] = (1.0,)) -> Guide:
    """Several conditions, each with a weight (Liu et al. 2022): ε̂_∅ + Σ w_i (ε̂_i − ε̂_∅).

    The first weight is for the images' own condition, the rest for `others`: captions, or labels. A single weight of 1
    leaves that condition unguided; a negative weight leads away from it. Costs one network call per condition and an
    unconditional one, or one call with all of them in the batch. Raises ValueError unless there are as many weights as
    conditions, each of them finite.

    >>> composed(("a bold digit", "a digit leaning left"), weights=(1.5, 1.0, -0.5)).others
    ('a bold digit', 'a digit leaning left')
    """
    if len(weights) != 1 + len(others):
        raise ValueError(
            f"weights={weights}: must be {1 + len(others)} numbers, one of the images' own condition and one for each "
            "of the others"
        )
    if not all(abs(weight) <= MOST for weight in weights):
        raise ValueError(f"weights={weights}: must be numbers from {-MOST:g} to {MOST:g}")
    for other in others:
        if other == "" or (isinstance(other, str) and not other.strip()):
            raise ValueError("others: must be captions that are not empty")
        if isinstance(other, int) and not 0 <= other < 2**31:
            raise ValueError(f"others={others}: must be labels, 0 or more")
    return Guide({"weights": np.array(weights, np.float32)}, _composed, others=tuple(others), needs_none=True)


def _composed(numbers: Numbers, scene: Scene) -> Denoise:
    conditions = [own(scene), *(another(scene, k) for k in range(numbers["weights"].shape[0] - 1))]
    given = several(scene, *conditions, dropped(scene))
    return guidance.guided(given, composition.weighted(numbers["weights"]))
