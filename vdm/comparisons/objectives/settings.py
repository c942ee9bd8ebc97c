"""Settings of compare.py --by=objective."""

from dataclasses import dataclass

from vdm.predictions import PREDICTIONS
from vdm.settings import at_least, parts_of, setting, some_of


@dataclass
class ObjectivesSettings:
    """Settings for comparing every combination of prediction, weighting and proposal."""

    predictions: tuple[str, ...] = setting(("eps", "v", "x", "F"), "What networks predict.", some_of(*PREDICTIONS))
    weightings: tuple[str, ...] = setting(
        ("elbo", "sigmoid(2)", "edm_monotonic", "simple"),
        "The weightings they are trained with.",
        parts_of("weighting"),
    )
    proposals: tuple[str, ...] = setting(("uniform",), "The noise levels they are trained at.", parts_of("proposal"))
    seeds: int = setting(3, "Runs of each, with the seeds seed, seed + 1, ….", at_least(1))
    metrics: tuple[str, ...] = setting(("mmd",), "What their samples are measured by.", parts_of("metric"))
    classifier: str | None = setting(
        None, "Folder of the classifier that metrics by one use; None: the data's own, trained if need be."
    )
    samples: int = setting(1000, "Images drawn from each, with the settings of `sampling`.", at_least(3))
    gradients: int = setting(64, "Training batches over which the gradient's noise is measured.", at_least(2))
