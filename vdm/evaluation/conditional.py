"""The value of a condition: the bound on −log p(x|c) compared with the same network's bound without the condition."""

from dataclasses import dataclass
from typing import Any

from vdm.data.dataset import Element, Source
from vdm.evaluation.bound import Evaluation
from vdm.evaluation.statistics import stderr_over_images
from vdm.model import DROPPED


class Dropped:
    """A source with every condition dropped, for a network trained with condition dropout (`Model.conditions`).

    >>> Dropped([{"image": 0, "label": 7}])[0]
    {'image': 0, 'label': 7, 'dropped': True}
    """

    def __init__(self, source: Source):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any, /) -> Element:
        return {**self.source[index], DROPPED: True}


@dataclass(frozen=True)
class Difference:
    """One evaluation minus another, paired by image, in bits/dim."""

    mean: float
    stderr: float | None
    """Standard error of `mean`, over the same units as in the evaluations. None for a single image or group."""

    def __str__(self) -> str:
        return f"{self.mean:+.4f}" + ("" if self.stderr is None else f" ± {self.stderr:.4f}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return {"mean": self.mean, "stderr": self.stderr}


def difference(first: Evaluation, second: Evaluation) -> Difference:
    """Return `first` minus `second` on the same images. With the same times and noise, most of the error cancels.

    Raises ValueError for different numbers of images.
    """
    if len(first.by_image) != len(second.by_image):
        raise ValueError(f"second has {len(second.by_image)} images: must have the {len(first.by_image)} of first")
    by_image = first.by_image - second.by_image
    return Difference(float(by_image.mean()), stderr_over_images(by_image, first.groups))
