"""Set up the sample-quality metrics of a comparison."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh
from rich.console import Console

from vdm.comparisons.work import OpenClassifier
from vdm.data import Dataset
from vdm.evaluation.metrics.quality import Quality
from vdm.evaluation.metrics.scoring import Real


@runtime_checkable
class Wanted(Protocol):
    """The settings that determine the metrics."""

    metrics: tuple[str, ...]
    classifier: str | None
    samples: int


def quality_of(
    settings: Wanted, dataset: Dataset, labelled: bool, mesh: Mesh, classifier: OpenClassifier, console: Console
) -> Quality:
    """Return the metrics against a data set's training images; `labelled` says whether the samples will have labels.

    Raises `InputError` if a metric does not support the data or needs missing weights, labels or a classifier.
    """
    info, folder = dataset.info, None if settings.classifier is None else Path(settings.classifier)
    return Quality(
        settings.metrics,
        Real.of(dataset),
        info.levels,
        info.shape,
        settings.samples,
        f"comparison.metrics={settings.metrics}",
        console,
        labelled,
        mesh,
        classifier=classifier(dataset, folder),
    )


def weights_of(quality: Quality) -> dict[str, Any]:
    """Return which feature extractor weights the numbers depend on, as an entry for the settings of a measurement."""
    extractors = quality.scorer.extractors().values()
    weighted = {each.identity for each in extractors if jax.tree.leaves(each.variables)}
    return {"extractors": sorted(weighted)} if weighted else {}
