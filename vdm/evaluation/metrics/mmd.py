"""Maximum mean discrepancy (MMD) between pixels of samples and data: unbiased, with its noise floor.

MMD² of two distributions is the squared distance of their mean embeddings under a kernel (Gretton et al. 2012); with a
Gaussian kernel it is 0 only if they are equal. It needs no classifier and no Gaussian assumption.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vdm.evaluation.metrics import distances
from vdm.evaluation.metrics.metric import Estimate, Features, Labels, Metric, Reference

SCALES = (1 / 16, 1 / 8, 1 / 4)
"""Squared widths of the Gaussian kernels, relative to the median squared distance between two real images.

They lie below the median, where the kernel tells near images from far ones: noise and loss of contrast show most there.
"""

MAX_REFERENCE = 4096
"""Maximum number of real images to compare with; of more, a random sample is used."""


def mmd() -> Metric:
    """Squared maximum mean discrepancy between pixels of samples and training images, unbiased (Gretton et al. 2012).

    >>> metric = mmd()
    >>> metric.heading(), metric.show(0.0125)
    ('1000 MMD²', '12.50')
    """
    return Metric("MMD²", Mmd, factor=1000.0)


class Mmd:
    """MMD² of images from the real ones, or from a sample of `MAX_REFERENCE` of them, by their pixels in [−1, 1]."""

    def __init__(self, reference: Reference):
        """Raise ValueError if most of the real images are equal."""
        self.real = reference.sample(MAX_REFERENCE)
        num = len(self.real)
        # Consecutive images may belong together (crops of one photograph), so pairs are taken from all over.
        order = np.random.default_rng(0).permutation(num)
        apart = np.asarray(distances.squared(self.real[order[: num // 2]], self.real[order[num // 2 :]])[0])
        self.median = float(np.median(apart)) if apart.size else 0.0
        if not self.median > 0:
            raise ValueError(f"real images: among {num}, most pairs are equal; MMD needs images that differ")

    def estimate(self, features: Features, labels: Labels | None = None) -> Estimate:
        """Return the unbiased estimate, which may be negative, and the same without each image.

        Its standard error is too large by up to √2 if the images are as good as data. Raises ValueError for fewer than
        three.
        """
        n = len(features)
        if n < 3:
            raise ValueError(f"images: {n} of them; must be 3 or more")
        others, between, within_real = _kernel_sums(features, self.real, self.median)
        without = _mmd(others.sum() - 2 * others, between.sum() - between, within_real, n - 1)
        return Estimate(float(_mmd(others.sum(), between.sum(), within_real, n)), np.asarray(without))

    def cautions(self, num: int) -> tuple[str, ...]:
        """Return no warnings: the estimate is unbiased for any number of images."""
        return ()

    def noise_floor(self, num: int, repeats: int = 20) -> float:
        """Return the root mean square of the estimate for `num` real images against the rest, where the true MMD² is 0.

        It is taken over random splits of the reference; `num` is at most half of it. If images belong together (crops
        of one photograph), both parts have some of each group: it is the floor for more images of the same photographs.
        """
        num = min(num, len(self.real) // 2)
        estimates = [self._mmd(self.real[part[:num]], self.real[part[num:]]) for part in self._orders(repeats)]
        return float(np.sqrt(np.mean(np.square(estimates))))

    def _orders(self, repeats: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(1)
        return (rng.permutation(len(self.real)) for _ in range(repeats))

    def _mmd(self, x: np.ndarray, y: np.ndarray) -> float:
        others, between, within_y = _kernel_sums(x, y, self.median)
        return float(_mmd(others.sum(), between.sum(), within_y, len(x)))


def _mmd(others: Any, between: Any, within_y: float, n: int) -> Any:
    """Return MMD² of n samples from y, given the sums over them of the values that `_kernel_sums` has for each."""
    return others / (n * (n - 1)) + within_y - 2 * between / n


def _kernel_sums(
    x: Float[np.ndarray, "n dims"], y: Float[np.ndarray, "m dims"], median: float
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], float]:
    """Return (sum of the kernel of each x with the others, its mean over y, mean over pairs of different y)."""
    n, m = len(x), len(y)
    # An image has kernel 1 with itself, which does not count.
    others = n * _mean_kernels(x, x, median) - 1
    within_y = (m * _mean_kernels(y, y, median).mean() - 1) / (m - 1)
    return others, _mean_kernels(x, y, median), float(within_y)


def _mean_kernels(
    x: Float[np.ndarray, "n dims"], y: Float[np.ndarray, "m dims"], median: float
) -> Float[np.ndarray, " n"]:
    """Return the mean over y of the kernel with each x, in float64: later sums cancel."""
    about = distances.center(y)
    columns, means = distances.columns(y, about), np.zeros(len(x))
    for rows, block in distances.blocks(x, about):
        means[rows] = np.asarray(_jitted_mean_kernels(block, columns, median))[: rows.stop - rows.start]
    return means


@jax.jit
def _jitted_mean_kernels(x: Float[ArrayLike, "n dims"], y: Float[ArrayLike, "m dims"], median: ArrayLike) -> Array:
    apart = distances.squared(x, y)[0] / median
    return jnp.mean(sum(jnp.exp(-apart / (2 * scale)) for scale in SCALES) / len(SCALES), axis=1)
