"""A metric of a user's own: how far the mean grey value of images is from that of the real ones."""

from collections.abc import Iterable

import numpy as np

from vdm.data.dataset import Source
from vdm.evaluation.metrics import Estimate, Images, Metric


class Grey:
    def __init__(self, source: Source, levels: int):
        real = np.array([source[i]["image"].mean() for i in range(len(source))])
        self.mean, self.std = real.mean(), real.std()

    def estimate(self, batches: Iterable[Images]) -> Estimate:
        greys = np.concatenate([images.mean(axis=(1, 2, 3)) for images in batches])
        without = (greys.sum() - greys) / (len(greys) - 1)
        return Estimate(float(abs(greys.mean() - self.mean)), abs(without - self.mean))

    def noise_floor(self, num: int) -> float:
        return float(self.std / np.sqrt(num))


def grey() -> Metric:
    """Difference of the mean grey value."""
    return Metric("grey difference", Grey, unit="levels", digits=3)
