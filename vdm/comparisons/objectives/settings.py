"""Settings of compare.py --by=objective."""

from dataclasses import dataclass

from vdm.predictions import PREDICTIONS
from vdm.settings import at_least, parts_of, setting, some_of


@dataclass
class ObjectivesSettings:
    """Settings for comparing every combination of prediction, weighting and proposal."""

    predictions: tuple[str, ...] = setting(("eps", "v", "x", "F"), "What the networks predict.", some_of(*PREDICTIONS))
    weightings: tuple[str, ...] = setting(
        ("elbo", "sigmoid(2)", "edm_monotonic", "simple"),
        "The weightings of the training loss.",
        parts_of("weighting"),
    )
    proposals: tuple[str, ...] = setting(
        ("uniform",), "The proposals for the noise levels in training.", parts_of("proposal")
    )
    seeds: int = setting(3, "Number of runs of each, with the seeds seed, seed + 1, ….", at_least(1))
    metrics: tuple[str, ...] = setting(("mmd",), "Metrics of sample quality.", parts_of("metric"))
    classifier: str | None = setting(
        None, "Folder of the classifier for metrics that need one; None: the data's own, trained if necessary."
    )
    samples: int = setting(1000, "Number of images from each, with the settings of `sampling`.", at_least(3))
    gradients: int = setting(64, "Number of training batches for measuring gradient noise.", at_least(2))
