"""The metrics that a comparison names, ready to measure its samples."""

from collections.abc import Sequence

from vdm import parts
from vdm.data import Dataset
from vdm.errors import InputError
from vdm.evaluation.metrics import Estimate, Images, Metric


class Quality:
    """Metrics of samples against a data set's training images, by the names that the settings give them."""

    def __init__(self, names: Sequence[str], dataset: Dataset, samples: int):
        """`samples` is the number of images that will be measured. Raises `InputError` if a metric refuses the data."""
        self.metrics: dict[str, Metric] = {name: parts.make("metric", name) for name in names}
        try:
            self._measures = {
                name: metric.prepare(dataset.train, dataset.info.levels) for name, metric in self.metrics.items()
            }
            self.floors = {name: measure.noise_floor(samples) for name, measure in self._measures.items()}
        except ValueError as error:
            raise InputError(f"comparison.metrics={tuple(names)}: {error}") from error

    def __call__(self, images: Images) -> dict[str, Estimate]:
        """What each metric says of them, by its name."""
        return {name: measure.estimate([images]) for name, measure in self._measures.items()}
