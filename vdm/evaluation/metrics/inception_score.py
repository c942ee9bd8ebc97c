"""Inception Score: how sure a classifier is of single images, and how varied they are together (Salimans et al. 2016).

exp of the mean over images of KL(p(y|x) ‖ p(y)), where p(y) is the mean of p(y|x) over the images: from 1 to the number
of classes. It sees no real images.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import log_softmax, xlogy

from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, Reference

SEED = 2020
"""Of the order in which images go into splits: torch-fidelity's, so that scores agree with it."""

USUAL = 5000
"""Images a split, of 50 000 in 10."""


def inception_score(splits: int = 10) -> Metric:
    """Inception Score: the mean over `splits` parts of the images; higher is better (Salimans et al. 2016).

    Raises ValueError for less than one split.

    >>> inception_score().title, inception_score().lower_is_better
    ('Inception Score', False)
    """
    return _metric("Inception Score", splits, "inception", "logits_unbiased")


def classifier_score(splits: int = 10) -> Metric:
    """The same of a classifier of this data: needs no weights, and compares with no Inception Score.

    Raises ValueError for less than one split.

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
    """The mean score of the splits, and exactly that without each image in its split.

    Without image k of m, of entropy h_k, the mean of p becomes q − (p_k − q)/(m − 1), and the score of the split
    exp(H(q) − mean of h) with what is left. ValueError for fewer than two images a split.

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
    """(score, score without each image)"""
    num = len(logits)
    logs = log_softmax(logits, axis=1)
    p = np.exp(logs)
    entropies = -np.sum(np.where(p > 0, p * logs, 0.0), axis=1)
    mean = p.mean(axis=0)
    # Of float64, sums of probabilities less one of them may come out below 0.
    others = np.maximum(mean - (p - mean) / (num - 1), 0)
    without = np.exp(_entropy(others) - (entropies.sum() - entropies) / (num - 1))
    return float(np.exp(_entropy(mean) - entropies.mean())), without


def _entropy(p: Float64[np.ndarray, "*batch classes"]) -> Any:
    return -np.sum(xlogy(p, p), axis=-1)


class InceptionScore:
    """The score of images; real ones are only for the noise floor."""

    def __init__(self, splits: int, reference: Reference):
        """Nothing of the real images is needed."""
        self.splits, self.reference = splits, reference

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """See `score`; features are the logits, up to a constant for each image."""
        return score(features, self.splits)

    def noise_floor(self, num: int) -> float:
        """The score of `num` real images, or of all that there are. ValueError where they are not known."""
        return score(self.reference.sample(num), self.splits).value

    def cautions(self, num: int) -> tuple[str, ...]:
        """That splits are smaller than is usual."""
        size = num // self.splits
        if size >= USUAL:
            return ()
        return (f"splits of {size} images; {USUAL} are usual, and of fewer the score is lower: compare at this number",)
