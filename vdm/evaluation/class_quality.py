"""Quality of samples with labels: the diversity within classes."""

import numpy as np
from jaxtyping import Float, Integer

from vdm.evaluation.metrics import Estimate, Images

Labels = Integer[np.ndarray, " _"]


def diversity(images: Images, labels: Labels, real: Images, real_labels: Labels) -> Estimate:
    """Return the diversity of images within a class relative to real ones: 1 for samples like data, 0 for copies.

    It is Σ_c V_c of the images over that of the real ones, where V_c is the unbiased variance of the pixels within
    class c, summed over pixels. Only classes with two or more images in both sets count. The value without an image
    drops a class of two images altogether, so that with few images per class the error is too large rather than too
    small. Raises ValueError if there is no such class, or if its real images are all the same.
    """
    classes = [c for c in np.unique(labels) if np.sum(labels == c) > 1 and np.sum(real_labels == c) > 1]
    of_real = {c: _spread(real[real_labels == c])[0] for c in classes}
    total_of_real = sum(of_real.values())
    if not total_of_real > 0:
        raise ValueError(f"labels: {len(classes)} classes with images that differ; must be 1 or more")
    spreads = {c: _spread(images[labels == c]) for c in classes}
    total = sum(spread for spread, _ in spreads.values())
    without = np.full(len(labels), total / total_of_real)
    for c, (spread, others) in spreads.items():
        if others is not None:
            without[labels == c] = (total - spread + others) / total_of_real
        elif total_of_real > of_real[c]:
            without[labels == c] = (total - spread) / (total_of_real - of_real[c])
    return Estimate(float(total / total_of_real), without)


def _spread(images: Images) -> tuple[float, Float[np.ndarray, " images"] | None]:
    """Return the variance of a class, summed over pixels, and the same without each image.

    The latter is None for a class of two images.
    """
    x = images.reshape(len(images), -1).astype(np.float64)
    n, squares = len(x), np.sum(np.square(x - x.mean(axis=0)), axis=1)
    spread = float(squares.sum() / (n - 1))
    if n == 2:
        return spread, None
    # Without image i: Σ (x − x̄₋ᵢ)² = Σ (x − x̄)² − n/(n−1) (xᵢ − x̄)².
    return spread, (squares.sum() - n / (n - 1) * squares) / (n - 2)
