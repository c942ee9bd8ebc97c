"""The metrics that a comparison names, ready to measure its samples."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh
from rich.console import Console

from vdm.comparisons.work import OpenClassifier
from vdm.data import Dataset
from vdm.errors import InputError
from vdm.evaluation.metrics import Estimate, Images, Labels, scoring
from vdm.evaluation.metrics.scoring import Real, Scorer
from vdm.files import cache_folder
from vdm.progress import Passes


@runtime_checkable
class Wanted(Protocol):
    """What settings say of it."""

    metrics: tuple[str, ...]
    classifier: str | None
    samples: int


class Quality:
    """Metrics of samples against a data set's training images, by the names that the settings give them.

    Their features are computed once, and kept in the user's cache.
    """

    def __init__(
        self,
        settings: Wanted,
        dataset: Dataset,
        labelled: bool,
        mesh: Mesh,
        classifier: OpenClassifier,
        console: Console,
    ):
        """`labelled` is whether samples will have labels. Says what to know of numbers from so few samples.

        Raises `InputError` if a metric refuses the data, or needs what is not there: weights, labels, a classifier.
        """
        self._setting = f"comparison.metrics={settings.metrics}"
        info = dataset.info
        folder = None if settings.classifier is None else Path(settings.classifier)
        self._passes = Passes(console)
        try:
            scoring.check(settings.metrics, settings.samples, labelled)
            with self._passes as passes:
                self._scorer = Scorer(
                    settings.metrics,
                    Real.of(dataset),
                    info.levels,
                    info.shape,
                    mesh,
                    cache_folder("features"),
                    progress=passes,
                    classifier=classifier(dataset, folder),
                )
                self.metrics = self._scorer.metrics
                self.floors = self._scorer.floors(settings.samples)
        except ValueError as error:
            raise InputError(f"{self._setting}: {error}") from error
        cautions = self._scorer.cautions(settings.samples)
        for line in dict.fromkeys(line for lines in cautions.values() for line in lines):
            console.print(f"note: {line}", style="yellow", markup=False, soft_wrap=True)

    @property
    def settings(self) -> dict[str, Any]:
        """What their numbers depend on beside their texts and the data: the weights that features were made with."""
        extractors = self._scorer.extractors().values()
        weighted = {each.identity for each in extractors if jax.tree.leaves(each.variables)}
        return {"extractors": sorted(weighted)} if weighted else {}

    def __call__(self, images: Images, labels: Labels | None = None) -> dict[str, Estimate]:
        """What each metric says of them, by its name."""
        try:
            with self._passes:
                return self._scorer(images, labels)
        except ValueError as error:
            raise InputError(f"{self._setting}: {error}") from error
