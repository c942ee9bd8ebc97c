"""Share of samples that a classifier of the data assigns to the class they were drawn for."""

import numpy as np
from jaxtyping import Float

from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, Reference


def class_accuracy() -> Metric:
    """Share of samples whose label a classifier of the data predicts, as guidance aims at (Dhariwal & Nichol 2021).

    >>> class_accuracy().heading()
    'class accuracy, %'
    """
    return Metric(
        "class accuracy",
        ClassAccuracy,
        "classifier",
        "log_prob",
        unit="%",
        digits=1,
        lower_is_better=False,
        labels=True,
        least=2,
    )


class ClassAccuracy:
    """Class accuracy of images, in percent, from log p(c|x) of every class."""

    def __init__(self, reference: Reference):
        """Keep the real images: the noise floor uses the other split, since the classifier was trained on this one."""
        self.reference = reference

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """Return the share of images whose most likely class is their label, and the same without each image.

        >>> log_prob = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
        >>> estimate = ClassAccuracy(Reference.of(log_prob)).estimate(log_prob, np.array([0, 1, 2, 2]))
        >>> estimate.value, estimate.without.round(1).tolist()
        (75.0, [66.7, 66.7, 100.0, 66.7])
        """
        if labels is None:
            raise ValueError("needs the labels of the images, and there are none")
        if len(labels) < 2:
            raise ValueError(f"images: {len(labels)} of them; must be 2 or more")
        hits: Float[np.ndarray, " images"] = 100.0 * (features.argmax(axis=1) == labels)
        return Estimate(float(hits.mean()), (hits.sum() - hits) / (len(hits) - 1))

    def noise_floor(self, num: int) -> float:
        """Return the accuracy on real images of the other split or, without one, on all, whatever `num` is.

        Raises ValueError if they have no labels, or if only their mean and covariance are known.
        """
        try:
            return self.estimate(self.reference.others, self.reference.other_labels).value
        except ValueError:
            return self.estimate(self.reference.features, self.reference.labels).value

    def cautions(self, num: int) -> tuple[str, ...]:
        """Return no warnings."""
        return ()
