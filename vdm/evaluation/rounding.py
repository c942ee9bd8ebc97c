"""What a precision other than float32 does to a bound: the difference on the same images, times and noise."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vdm.evaluation.statistics import Groups, stderr_over_images

IMAGES = 64
"""From all over the split, on which the difference is measured: it varies far less over images than the bound."""


@dataclass(frozen=True)
class Rounding:
    """A bound less that in float32, in bits/dim: the mean of the images' own differences."""

    mean: float
    stderr: float | None
    """Its standard error for images like these, paired; over groups where the data have some; None of one."""
    num_images: int

    def __str__(self) -> str:
        """+0.0003 ± 0.0001 against float32 on 64 images, with two digits of the error or more.

        >>> print(Rounding(0.000312, 0.0000478, 64))
        +0.000312 ± 0.000048 against float32 on 64 images
        >>> print(Rounding(-0.5, None, 1))
        -0.5000 against float32 on 1 image
        """
        least = self.stderr or 1.0
        digits = min(max(4, 1 - math.floor(math.log10(least))), 10)
        error = "" if self.stderr is None else f" ± {self.stderr:.{digits}f}"
        images = f"{self.num_images} image{'s' * (self.num_images > 1)}"
        return f"{self.mean:+.{digits}f}{error} against float32 on {images}"

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def to_rounding(
    bits: Float[np.ndarray, " images"], in_float32: Float[np.ndarray, " images"], groups: Groups | None = None
) -> Rounding:
    """From the bits/dim of each image in both."""
    differences = bits - in_float32
    return Rounding(float(differences.mean()), stderr_over_images(differences, groups), len(differences))
