"""What a condition is worth: the bound on −log p(x|c) beside the same network's bound without its condition."""

from dataclasses import dataclass
from typing import Any

from vdm.data.dataset import Element, Source
from vdm.evaluation.bound import Evaluation
from vdm.evaluation.statistics import stderr_over_images
from vdm.model import DROPPED


class Dropped:
    """A source whose every condition is dropped, for a network that learned to do without (`Model.conditions`).

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
    """One evaluation less another, image by image, in bits/dim."""

    mean: float
    stderr: float | None
    """Standard error of `mean`, over what that of the evaluations is over; None of one image or group."""

    def __str__(self) -> str:
        return f"{self.mean:+.4f}" + ("" if self.stderr is None else f" ± {self.stderr:.4f}")

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return {"mean": self.mean, "stderr": self.stderr}


def difference(first: Evaluation, second: Evaluation) -> Difference:
    """`first` less `second`, of the same images. With the same times and noise most of their error cancels.

    Raises ValueError for different numbers of images.
    """
    if len(first.by_image) != len(second.by_image):
        raise ValueError(f"second is of {len(second.by_image)} images: must be of the {len(first.by_image)} of first")
    by_image = first.by_image - second.by_image
    return Difference(float(by_image.mean()), stderr_over_images(by_image, first.groups))
