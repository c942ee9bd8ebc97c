"""Whether samples match their captions, measured as the captions of real images were made."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float, Integer

from vdm.data.captions import Description
from vdm.evaluation.metrics.extractors.classifier import Opened
from vdm.evaluation.metrics.metric import Estimate, Images

ALL = "all"
"""The attribute that stands for everything a caption asks for."""
AT_ONCE = 512
"""Number of images per call of the classifier."""


def obedience(
    description: Description, captions: Sequence[str], images: Images, opened: Opened | None
) -> dict[str, Estimate]:
    """Return, for each attribute, the percentage of images that match, among those whose captions mention it.

    Attributes that no caption asks for are left out; `ALL` covers everything that is asked for. The class of an image
    is the classifier's prediction. Without a classifier, raises ValueError for images whose measurements need their
    class.
    """
    labels = None if opened is None else classes_of(opened, images)
    hits = description.obeyed(list(captions), images, labels)
    asked = {name: each for name, each in hits.items() if not np.isnan(each).all()}
    asked[ALL] = everything(asked)
    return {name: share(each) for name, each in asked.items()}


def everything(hits: Mapping[str, Float[np.ndarray, " images"]]) -> Float[np.ndarray, " images"]:
    """Return 1 where everything asked for is there, 0 where something is missing, and NaN where nothing is asked for.

    >>> everything({"a": np.array([1.0, 0.0, np.nan]), "b": np.array([np.nan, 1.0, np.nan])}).tolist()
    [1.0, 0.0, nan]
    """
    several = np.stack(list(hits.values()))
    return np.where(np.isnan(several).all(axis=0), np.nan, np.nan_to_num(several, nan=1.0).min(axis=0))


def share(hits: Float[np.ndarray, " images"]) -> Estimate:
    """Return the mean of the values that are not NaN, in percent, and the same without each image.

    >>> estimate = share(np.array([1.0, 0.0, np.nan, 1.0]))
    >>> round(estimate.value, 1), estimate.without.round(1).tolist()
    (66.7, [50.0, 100.0, 66.7, 50.0])
    """
    asked, hit = ~np.isnan(hits), np.nan_to_num(hits)
    num, total = asked.sum(), hit.sum()
    return Estimate(100 * float(total / num), 100 * (total - hit) / np.maximum(num - asked, 1))


def classes_of(opened: Opened, images: Images) -> Integer[np.ndarray, " images"]:
    """Return the most likely class of each image, at the lowest noise level that the classifier knows."""
    classify = jax.jit(lambda images: opened.classifier.features(opened.variables, images)[1].argmax(axis=1))
    padded = np.concatenate([images, np.zeros((-len(images) % AT_ONCE, *images.shape[1:]), images.dtype)])
    found = [np.asarray(classify(padded[first : first + AT_ONCE])) for first in range(0, len(padded), AT_ONCE)]
    return np.concatenate(found)[: len(images)]
