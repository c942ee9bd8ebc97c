"""Settings of compare.py --by=guidance."""

from dataclasses import dataclass

from vdm.settings import at_least, parts_of, setting


@dataclass
class GuidanceSettings:
    """Settings for comparing guidance methods on one trained run with labels or captions."""

    guidances: tuple[str, ...] = setting(
        (
            "classifier_free(0.5)", "classifier_free(1)", "classifier_free(2)", "classifier_free(4)",
            "classifier_free(1, interval=(-3, 3))", "classifier_free(2, interval=(-3, 3))",
            "classifier_free(4, interval=(-3, 3))",
        ),
        "Guidance methods, in addition to the model with and without labels.",
        parts_of("guidance"),
    )  # fmt: skip
    metrics: tuple[str, ...] = setting(("mmd", "class_accuracy"), "Metrics of sample quality.", parts_of("metric"))
    classifier: str | None = setting(
        None, "Folder of the classifier for metrics that need one; None: the data's own, trained if necessary."
    )
    samples: int = setting(1000, "Number of images from each, with the other settings of `sampling`.", at_least(3))
