"""Kernel Inception distance: unbiased MMD² with a polynomial kernel, over random subsets (Bińkowski et al. 2018)."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float32

from vdm.evaluation.metrics.halves import disjoint
from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, RealFeatures, Reference

SEED = 2020
"""Seed of the subsets: that of torch-fidelity, so that distances agree with it."""

FLOORS = 4
"""Number of random splits of the real images for the noise floor."""

Sums = Float32[Array, " m"]


def kid(subsets: int = 100, size: int = 1000, extractor: str = "inception") -> Metric:
    """Kernel Inception distance: MMD² with kernel (x·y/dims + 1)³, averaged over subsets (Bińkowski et al. 2018).

    Raises ValueError if there is no subset, or for subsets of fewer than three images.

    >>> kid().heading(), kid().show(0.00512)
    ('1000 KID', '5.12')
    """
    if subsets < 1 or size < 3:
        raise ValueError(f"subsets={subsets}, size={size}: must be 1 or more, of 3 images or more")

    def prepare(reference: Reference) -> Kid:
        return Kid(subsets, size, reference)

    title = "KID" if extractor == "inception" else f"KD of {extractor}"
    return Metric(title, prepare, extractor, "", factor=1000.0)


def kernel_distance(features: Features, real: RealFeatures, subsets: int, size: int) -> Estimate:
    """Return the mean over subsets of `size` images from both sets, and its exact value without each image.

    An image is left out of the subsets that contain it. If there are fewer than `size` images, a subset has all of them
    and as many of the others. Raises ValueError for fewer than three.
    """
    n, m = len(features), min(size, len(features), len(real))
    if m < 3:
        raise ValueError(f"images: {n} of them, {len(real)} real ones; must be 3 or more")
    value, change = 0.0, np.zeros(n)
    for chosen, chosen_real in _choices(n, len(real), subsets, m):
        x, y = features[chosen], real[chosen_real]
        within, between, real_sums = (np.asarray(sums, np.float64) for sums in _sums(x, y))
        within_real = real_sums.sum() / (m * (m - 1))
        distance = within.sum() / (m * (m - 1)) + within_real - 2 * between.sum() / m**2
        without = (
            (within.sum() - 2 * within) / ((m - 1) * (m - 2))
            + within_real
            - 2 * (between.sum() - between) / (m * (m - 1))
        )
        value += distance / subsets
        # No image occurs twice in a subset.
        change[chosen] += (without - distance) / subsets
    return Estimate(float(value), value + change)


def _choices(num: int, real: int, subsets: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.RandomState(SEED)
    for _ in range(subsets):
        yield rng.choice(num, size, replace=False), rng.choice(real, size, replace=False)


@jax.jit
def _sums(x: Float32[ArrayLike, "m dims"], y: Float32[ArrayLike, "m dims"]) -> tuple[Sums, Sums, Sums]:
    """Return the sums of the kernel of each x with the other x, of each x with all y, and of each y with the other y.

    The kernel is taken minus 1: a constant does not change MMD², but would cost digits.
    """

    def kernel(a: ArrayLike, b: ArrayLike) -> Array:
        t = jnp.matmul(a, jnp.transpose(b), precision="highest") / jnp.shape(a)[1]
        return t * (t * (t + 3) + 3)

    def others(k: Array) -> Array:
        return k.sum(axis=1) - jnp.diagonal(k)

    return others(kernel(x, x)), kernel(x, y).sum(axis=1), others(kernel(y, y))


class Kid:
    """The kernel distance of images from the real ones."""

    def __init__(self, subsets: int, size: int, reference: Reference):
        """Raise ValueError if only mean and covariance of the real images are known."""
        self.subsets, self.size, self.real = subsets, size, reference.features

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """See `kernel_distance`. It is unbiased, so it may be negative.

        For images as good as data, the standard error tends to be too large.
        """
        return kernel_distance(features, self.real, self.subsets, self.size)

    def noise_floor(self, num: int) -> float:
        """Return the root mean square distance of `num` real images (at most half) from the rest; its mean is 0."""
        floors = []
        for seed in range(FLOORS):
            part, rest = (self.real[rows] for rows in disjoint(len(self.real), num, seed))
            floors.append(kernel_distance(part, rest, self.subsets, self.size).value)
        return float(np.sqrt(np.mean(np.square(floors))))

    def cautions(self, num: int) -> tuple[str, ...]:
        """Warn if subsets are smaller than requested."""
        size = min(num, len(self.real))
        if size >= self.size:
            return ()
        return (
            f"subsets of {size} images, as there are no more, rather than {self.size}: unbiased, with a larger error",
        )
