"""Settings of compare.py --by=text."""

from dataclasses import dataclass

from vdm.settings import at_least, parts_of, setting


@dataclass
class TextSettings:
    """Settings for comparing guidance methods on one trained run with captions."""

    guidances: tuple[str, ...] = setting(
        ("classifier_free(1)", "classifier_free(2)", "classifier_free(4)"),
        "Guidances, beside the model with captions and without.",
        parts_of("guidance"),
    )
    classifier: str | None = setting(
        None, "Folder of the classifier that tells the class of samples; None: the data's own, trained if need be."
    )
    samples: int = setting(
        600, "Images drawn by each, with the other settings of `sampling`, of each kind of captions.", at_least(2)
    )
