"""FID∞: the Fréchet distance for infinitely many images, extrapolated by a line in 1/n (Chong & Forsyth 2020)."""

import numpy as np
from jaxtyping import Float64

from vdm.evaluation.metrics.frechet import Frechet, Target, estimate, few, parted, target
from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric

SIZES = 15
"""Number of subsets; their sizes are evenly spaced …"""
SMALLEST = 10
"""… from the number of images divided by this (such as 5000 of 50 000) up to all of them."""

LEAST = 3 * SMALLEST


def fid_infinity(extractor: str = "inception") -> Metric:
    """Fréchet distance extrapolated to infinitely many images, which removes its bias (Chong & Forsyth 2020).

    Uses the first output of any extractor.

    >>> fid_infinity("dinov2(size='l')").title, fid_infinity().title
    ("FD∞ of dinov2(size='l')", 'FID∞')
    """
    title = "FID∞" if extractor == "inception" else f"FD∞ of {extractor}"
    return Metric(title, FrechetInfinity, extractor, "", least=LEAST)


class FrechetInfinity(Frechet):
    """FID∞ of samples, compared with the same mean and covariance of real images for any number of samples."""

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """See `extrapolated`."""
        return extrapolated(features, self.target)

    def noise_floor(self, num: int) -> float:
        """Return the standard error of the value for `num` real images.

        Their expected value is 0 except for the bias of the rest. Raises ValueError if the features of the real images
        are not known.
        """
        part, rest = parted(self.reference, num)
        return extrapolated(part, target(rest)).stderr

    def cautions(self, num: int) -> tuple[str, ...]:
        """Warn if the smallest subset has fewer than two images per feature, where the bias is not linear in 1/n."""
        return few(num, self.reference, num // SMALLEST)


def sizes_and_weights(num: int) -> tuple[np.ndarray, Float64[np.ndarray, " sizes"]]:
    """Return sizes n, and the weights with which the distances at n give the fitted line's value at 1/n = 0.

    >>> sizes, weights = sizes_and_weights(1000)
    >>> round(float(weights @ (3 + 50 / sizes)), 10)
    3.0
    """
    sizes = np.round(np.linspace(num / SMALLEST, num, SIZES)).astype(int)
    weights: Float64[np.ndarray, " sizes"] = np.linalg.pinv(np.stack([np.ones(SIZES), 1 / sizes], axis=1))[0]
    return sizes, weights


def extrapolated(features: Features, of: Target) -> Estimate:
    """Return the value at 1/n = 0 of the line through the distances of nested subsets, and that without each image.

    The subsets are the first images in one fixed order. A subset's chance deviation from all images is, to first order,
    subtracted from its distance: the influence ψ of each image on the distance of all images is known, and Σ ψ = 0.
    This changes no expectation, and leaves little more noise than the distance of all images has. Raises ValueError for
    fewer than 30 images.
    """
    n = len(features)
    if n < LEAST:
        raise ValueError(f"images: {n} of them; must be {LEAST} or more")
    sizes, weights = sizes_and_weights(n)
    order = np.random.default_rng(0).permutation(n)
    value, whole = estimate(features, of)
    # The change of the distance of all images without each one: −ψ / (n − 1).
    change = whole - whole.mean()
    total, without = weights[-1] * value, change.copy()
    for size, weight in zip(sizes[:-1], weights[:-1], strict=True):
        chosen = np.sort(order[:size])
        at_size, left_out = estimate(features[chosen], of)
        chance = -(n - 1) * change[chosen]
        total += weight * (at_size - chance.mean())
        # The image's own influence in the subset, minus the part that was subtracted.
        without[chosen] += weight * (left_out - left_out.mean() + chance / (size - 1))
    return Estimate(float(total), total + without)
