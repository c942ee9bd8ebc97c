"""The effect of a lower precision on the bound: its difference from float32 on the same images, times and noise."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vdm.evaluation.statistics import Groups, stderr_over_images

IMAGES = 64
"""Number of images to measure the difference on, spread over the split.

The difference varies far less over images than the bound.
"""


@dataclass(frozen=True)
class Rounding:
    """A bound minus the same bound in float32, in bits/dim, averaged over images."""

    mean: float
    stderr: float | None
    """Paired standard error for images like these, over groups if there are any. None for a single image or group."""
    num_images: int

    def __str__(self) -> str:
        """Return e.g. "+0.0003 ± 0.0001 against float32 on 64 images", with at least two digits of the error.

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
        """Return the fields, for JSON."""
        return asdict(self)


def to_rounding(
    bits: Float[np.ndarray, " images"], in_float32: Float[np.ndarray, " images"], groups: Groups | None = None
) -> Rounding:
    """Compare the bits/dim of each image in both precisions."""
    differences = bits - in_float32
    return Rounding(float(differences.mean()), stderr_over_images(differences, groups), len(differences))
