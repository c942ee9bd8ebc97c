"""FID∞: the Fréchet distance that infinitely many images would have, by a line in 1/n (Chong & Forsyth 2020)."""

import numpy as np
from jaxtyping import Float64

from vdm.evaluation.metrics.frechet import Frechet, Target, estimate, few, parted, target
from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric

SIZES = 15
"""Of subsets, evenly spaced, …"""
SMALLEST = 10
"""… from the images' number divided by this, as 5000 to 50 000, to all of them."""

LEAST = 3 * SMALLEST


def fid_infinity(extractor: str = "inception") -> Metric:
    """Fréchet distance extrapolated to infinitely many images: no bias in their number (Chong & Forsyth 2020).

    Of the first output of any extractor.

    >>> fid_infinity("dinov2(size='l')").title, fid_infinity().title
    ("FD∞ of dinov2(size='l')", 'FID∞')
    """
    title = "FID∞" if extractor == "inception" else f"FD∞ of {extractor}"
    return Metric(title, FrechetInfinity, extractor, "", least=LEAST)


class FrechetInfinity(Frechet):
    """The same real images, mean and covariance, for samples of any number."""

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """See `extrapolated`."""
        return extrapolated(features, self.target)

    def noise_floor(self, num: int) -> float:
        """The standard error of the value for `num` real images, whose mean is 0 but for the rest's own bias.

        ValueError where the features of real images are not known.
        """
        part, rest = parted(self.reference, num)
        return extrapolated(part, target(rest)).stderr

    def cautions(self, num: int) -> tuple[str, ...]:
        """That the smallest subset has fewer than two images a feature, where the bias is no line in 1/n."""
        return few(num, self.reference, num // SMALLEST)


def sizes_and_weights(num: int) -> tuple[np.ndarray, Float64[np.ndarray, " sizes"]]:
    """(numbers n of images, weights with which distances at n add up to that of the fitted line at 1/n = 0).

    >>> sizes, weights = sizes_and_weights(1000)
    >>> round(float(weights @ (3 + 50 / sizes)), 10)
    3.0
    """
    sizes = np.round(np.linspace(num / SMALLEST, num, SIZES)).astype(int)
    weights: Float64[np.ndarray, " sizes"] = np.linalg.pinv(np.stack([np.ones(SIZES), 1 / sizes], axis=1))[0]
    return sizes, weights


def extrapolated(features: Features, of: Target) -> Estimate:
    """The value at 1/n = 0 of the line through the distances of nested subsets; and what each image does to it.

    The subsets are the first images of one fixed order. What a subset's images have by chance above the mean of all, to
    first order, is taken off its distance: the influence ψ of each image on the distance of all is known, and Σ ψ = 0.
    That changes no expectation, and it leaves little more noise than the distance of all images has. ValueError for
    fewer than 30 images.
    """
    n = len(features)
    if n < LEAST:
        raise ValueError(f"images: {n} of them; must be {LEAST} or more")
    sizes, weights = sizes_and_weights(n)
    order = np.random.default_rng(0).permutation(n)
    value, whole = estimate(features, of)
    # By how much the distance of all images changes without each: −ψ / (n − 1).
    change = whole - whole.mean()
    total, without = weights[-1] * value, change.copy()
    for size, weight in zip(sizes[:-1], weights[:-1], strict=True):
        chosen = np.sort(order[:size])
        at_size, left_out = estimate(features[chosen], of)
        chance = -(n - 1) * change[chosen]
        total += weight * (at_size - chance.mean())
        # The image's own influence in the subset, less that which was taken off.
        without[chosen] += weight * (left_out - left_out.mean() + chance / (size - 1))
    return Estimate(float(total), total + without)
