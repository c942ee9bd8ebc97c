"""Settings of compare.py --by=text."""

from dataclasses import dataclass

from vdm.settings import at_least, parts_of, setting


@dataclass
class TextSettings:
    """Settings for comparing guidance methods on one trained run with captions."""

    guidances: tuple[str, ...] = setting(
        ("classifier_free(1)", "classifier_free(2)", "classifier_free(4)"),
        "Guidance methods, in addition to the model with and without captions.",
        parts_of("guidance"),
    )
    classifier: str | None = setting(
        None, "Folder of the classifier for the class of samples; None: the data's own, trained if necessary."
    )
    samples: int = setting(
        600, "Number of images from each per kind of captions, with the other settings of `sampling`.", at_least(2)
    )
