"""How many samples a classifier of the data takes for what they should be."""

import numpy as np
from jaxtyping import Float

from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, Reference


def class_accuracy() -> Metric:
    """The share of samples that a classifier of the data takes for their label, as Dhariwal & Nichol (2021) guide to.

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
    """Of images by log p(c|x) of every class, in per cent."""

    def __init__(self, reference: Reference):
        """Real images of the other split are what samples are held against: by those of its own a classifier learns."""
        self.reference = reference

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """The share whose most likely class is their label; and the same without each image.

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
        """That of the real images of the other split, or if there is none of all, however many samples there are.

        ValueError if these have no labels, or nothing but their mean and covariance is known.
        """
        try:
            return self.estimate(self.reference.others, self.reference.other_labels).value
        except ValueError:
            return self.estimate(self.reference.features, self.reference.labels).value

    def cautions(self, num: int) -> tuple[str, ...]:
        """None."""
        return ()
