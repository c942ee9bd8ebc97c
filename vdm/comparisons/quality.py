"""The metrics that a comparison names, ready to measure its samples."""

from collections.abc import Sequence

from vdm.data import Dataset
from vdm.errors import InputError
from vdm.evaluation.metrics import Estimate, Images, Labels
from vdm.evaluation.metrics.scoring import Real, Scorer


class Quality:
    """Metrics of samples against a data set's training images, by the names that the settings give them."""

    def __init__(self, names: Sequence[str], dataset: Dataset, samples: int):
        """`samples` is the number of images that will be measured. Raises `InputError` if a metric refuses the data."""
        self._setting = f"comparison.metrics={tuple(names)}"
        info = dataset.info
        try:
            self._scorer = Scorer(names, Real.of(dataset), info.levels, info.shape)
            self.metrics = self._scorer.metrics
            self.floors = self._scorer.floors(samples)
        except ValueError as error:
            raise InputError(f"{self._setting}: {error}") from error

    def __call__(self, images: Images, labels: Labels | None = None) -> dict[str, Estimate]:
        """What each metric says of them, by its name."""
        try:
            return self._scorer(images, labels)
        except ValueError as error:
            raise InputError(f"{self._setting}: {error}") from error
