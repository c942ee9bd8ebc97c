"""A metric of a user's own: how far the mean grey value of images is from that of the real ones."""

import numpy as np

from vdm.data import examples
from vdm.data.dataset import Source
from vdm.evaluation.metrics import Estimate, Features, Images, Labels, Metric, Reference


def pixels_of(images: Images, levels: int) -> Features:
    """As the extractor `pixels` has them."""
    return ((2 * images.reshape(len(images), -1).astype(np.float32) + 1) / np.float32(levels)) - 1


def of_pixels(source: Source, levels: int) -> Reference:
    return Reference.of(pixels_of(examples(source, range(len(source)))["image"], levels))


class Grey:
    def __init__(self, reference: Reference):
        real = reference.features.mean(axis=1)
        self.mean, self.std = real.mean(), real.std()

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        greys = features.mean(axis=1)
        without = (greys.sum() - greys) / (len(greys) - 1)
        return Estimate(float(abs(greys.mean() - self.mean)), abs(without - self.mean))

    def noise_floor(self, num: int) -> float:
        return float(self.std / np.sqrt(num))

    def cautions(self, num: int) -> tuple[str, ...]:
        return ()


def grey() -> Metric:
    """Difference of the mean grey value."""
    return Metric("grey difference", Grey, unit="levels", digits=3)
