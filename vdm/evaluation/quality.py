"""How far samples are from data: the maximum mean discrepancy (MMD) on pixels, unbiased, with its noise floor.

MMD² of two distributions is the squared distance of their mean embeddings by a kernel (Gretton et al. 2012); with a
Gaussian kernel it is 0 only if they are equal. It needs no classifier and no Gaussian assumption.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from vdm.data import num_evaluated
from vdm.data.dataset import Source

SCALES = (1 / 16, 1 / 8, 1 / 4)
"""Squared widths of the Gaussian kernels, in units of the median squared distance of two real images.

Below the median, where the kernel tells near from far images: there noise and loss of contrast show most.
"""

MAX_REFERENCE = 4096
"""The most real images that samples are compared with."""


class Quality:
    """MMD² of images from the first `MAX_REFERENCE` images of a source, of integer values 0 … levels−1."""

    def __init__(self, source: Source, levels: int):
        num = num_evaluated(source, MAX_REFERENCE)
        self.levels = levels
        self.real = self._vectors(np.stack([source[i] for i in range(num)]))
        # Neighbours may belong together (crops of one photograph): pairs from all over.
        order = np.random.default_rng(0).permutation(num)
        distances = np.asarray(_squared_distances(self.real[order[: num // 2]], self.real[order[num // 2 :]]))
        self.median = float(np.median(distances))

    def __call__(self, images: Integer[np.ndarray, "num height width channels"]) -> float:
        """The unbiased estimate of MMD² (it may be negative). Raises ValueError for fewer than two images."""
        if len(images) < 2:
            raise ValueError(f"images: {len(images)} of them; must be 2 or more")
        return self._mmd(self._vectors(images), self.real)

    def noise(self, num: int, repeats: int = 20) -> float:
        """Root mean square of the estimate for `num` real images against the rest, whose true MMD² is 0.

        Over random splits; `num` is at most half of the images that there are.
        """
        num = min(num, len(self.real) // 2)
        estimates = [self._mmd(self.real[part[:num]], self.real[part[num:]]) for part in self._orders(repeats)]
        return float(np.sqrt(np.mean(np.square(estimates))))

    def _orders(self, repeats: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(1)
        return (rng.permutation(len(self.real)) for _ in range(repeats))

    def _vectors(self, images: np.ndarray) -> np.ndarray:
        """Pixels in [−1, 1], an image a row."""
        return ((2 * images.reshape(len(images), -1).astype(np.float32) + 1) / self.levels) - 1

    def _mmd(self, x: np.ndarray, y: np.ndarray) -> float:
        within_x, within_y, between = (float(_mean_kernel(a, b, self.median)) for a, b in ((x, x), (y, y), (x, y)))
        # An image with itself has kernel 1, and does not count.
        n, m = len(x), len(y)
        return (n * within_x - 1) / (n - 1) + (m * within_y - 1) / (m - 1) - 2 * between


def _squared_distances(x: Float[ArrayLike, "n dims"], y: Float[ArrayLike, "m dims"]) -> Array:
    x, y = jnp.asarray(x), jnp.asarray(y)
    inner = jnp.matmul(x, y.T, precision="highest")
    norms = jnp.sum(jnp.square(x), axis=1)[:, None] + jnp.sum(jnp.square(y), axis=1)[None, :]
    return jnp.maximum(norms - 2 * inner, 0)


@jax.jit
def _mean_kernel(x: Float[Array, "n dims"], y: Float[Array, "m dims"], median: ArrayLike) -> Array:
    distances = _squared_distances(x, y) / median
    return jnp.mean(sum(jnp.exp(-distances / (2 * scale)) for scale in SCALES) / len(SCALES))
