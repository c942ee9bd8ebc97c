"""Inception Score: how confident a classifier is on each image, and how varied the images are (Salimans et al. 2016).

It is exp of the mean over images of KL(p(y|x) ‖ p(y)), where p(y) is the mean of p(y|x) over the images; it ranges from
1 to the number of classes. It does not use real images.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import log_softmax, xlogy

from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, Reference

SEED = 2020
"""Seed of the order in which images are split: that of torch-fidelity, so that scores agree with it."""

USUAL = 5000
"""Usual number of images per split: 50 000 in 10 splits."""


def inception_score(splits: int = 10) -> Metric:
    """Inception Score: the mean over `splits` parts of the images; higher is better (Salimans et al. 2016).

    Raises ValueError for fewer than one split.

    >>> inception_score().title, inception_score().lower_is_better
    ('Inception Score', False)
    """
    return _metric("Inception Score", splits, "inception", "logits_unbiased")


def classifier_score(splits: int = 10) -> Metric:
    """The same score from a classifier of this data: needs no weights, and is not comparable with the Inception Score.

    Raises ValueError for fewer than one split.

    >>> classifier_score().title
    'classifier score'
    """
    return _metric("classifier score", splits, "classifier", "log_prob")


def _metric(title: str, splits: int, extractor: str, output: str) -> Metric:
    if splits < 1:
        raise ValueError(f"splits={splits}: must be 1 or more")

    def prepare(reference: Reference) -> InceptionScore:
        return InceptionScore(splits, reference)

    return Metric(title, prepare, extractor, output, lower_is_better=False, least=2 * splits)


def score(logits: Features, splits: int) -> Estimate:
    """Return the mean score of the splits, and its exact value without each image in its split.

    Without image k of m, with entropy h_k, the mean q of p becomes q − (p_k − q)/(m − 1), and the score of the split is
    exp(H(q) − mean of h) over the remaining images. Raises ValueError for fewer than two images per split.

    >>> round(score(np.array([[99, 0], [0, 99], [99, 0], [0, 99]], np.float32), splits=1).value, 6)
    2.0
    """
    num = len(logits)
    if num < 2 * splits:
        raise ValueError(f"images: {num} of them; must be {2 * splits} or more, 2 for each of {splits} splits")
    order = np.random.RandomState(SEED).permutation(num)
    edges = [k * num // splits for k in range(splits + 1)]
    scores, without = np.zeros(splits), np.zeros(num)
    for k in range(splits):
        part = order[edges[k] : edges[k + 1]]
        scores[k], without[part] = _split(logits[part].astype(np.float64))
        without[part] -= scores[k]
    return Estimate(float(scores.mean()), scores.mean() + without / splits)


def _split(logits: Float64[np.ndarray, "images classes"]) -> tuple[float, Float64[np.ndarray, " images"]]:
    """Return (score, score without each image)."""
    num = len(logits)
    logs = log_softmax(logits, axis=1)
    p = np.exp(logs)
    entropies = -np.sum(np.where(p > 0, p * logs, 0.0), axis=1)
    mean = p.mean(axis=0)
    # In float64, a sum of probabilities minus one of them may come out below 0.
    others = np.maximum(mean - (p - mean) / (num - 1), 0)
    without = np.exp(_entropy(others) - (entropies.sum() - entropies) / (num - 1))
    return float(np.exp(_entropy(mean) - entropies.mean())), without


def _entropy(p: Float64[np.ndarray, "*batch classes"]) -> Any:
    return -np.sum(xlogy(p, p), axis=-1)


class InceptionScore:
    """The score of images; real images are only used for the noise floor."""

    def __init__(self, splits: int, reference: Reference):
        """Preparation does not use the real images."""
        self.splits, self.reference = splits, reference

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """See `score`; the features are logits, up to a constant for each image."""
        return score(features, self.splits)

    def noise_floor(self, num: int) -> float:
        """Return the score of `num` real images, or of all if they are fewer. Raises ValueError if none are known."""
        return score(self.reference.sample(num), self.splits).value

    def cautions(self, num: int) -> tuple[str, ...]:
        """Warn if splits are smaller than usual."""
        size = num // self.splits
        if size >= USUAL:
            return ()
        return (f"splits of {size} images; {USUAL} are usual, and fewer lower the score: compare at this number",)
