"""Averages of per-image numbers over the noise that a sampler visits, by γ, and on clean images, with errors."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import parallel
from vdm.data.dataset import Source
from vdm.evaluation.bound import Progress, image_uniform, stratum
from vdm.evaluation.over_images import over_images
from vdm.evaluation.statistics import Groups, Share, stderr_over_images
from vdm.keys import Keys
from vdm.model import Batch, Variables
from vdm.noisy import Schedule

GAMMA_BINS = 16
"""Number of equal bins of γ from γ(0) to γ(1)."""


class Sums(NamedTuple):
    """Sums of several numbers over the noise draws of each image."""

    uniform: Float[Array, "batch numbers"]
    """Over uniform times."""
    by_gamma: Float[Array, "batch bins counted"]
    """At uniform γ, in each of the `GAMMA_BINS`: the number of draws, and the sums of the numbers."""
    clean: Float[Array, "batch numbers"]
    """At γ(0), from one draw."""


class Shares(NamedTuple):
    """The means of one number over images."""

    uniform: Share
    """Over uniform times."""
    by_gamma: list[Share | None]
    """Over uniform γ, in each of the `GAMMA_BINS`. None for a bin without draws."""
    clean: Share
    """At γ(0)."""


class OverNoise:
    """Computes `Sums` for the elements of a source with the variables of one model; compiles once."""

    def __init__(self, of_batch: Callable[..., Sums], gamma: Schedule, mesh: Mesh, batch_size: int):
        """`of_batch` is (variables, key, batch, draws) → `Sums`, and `gamma` is t → γ(t).

        A call takes `batch_size` elements, rounded up to a multiple of the mesh's devices.
        """
        self.mesh, self.batch_size = mesh, parallel.round_up(batch_size, mesh)
        low, high = np.asarray(gamma(jnp.asarray([0.0, 1.0])), np.float64)
        self.edges = np.linspace(low, high, GAMMA_BINS + 1)
        self._of_batch = jax.jit(lambda variables, *rest: of_batch(parallel.gathered(variables, mesh), *rest))

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_elements: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> tuple[Sums, Groups | None]:
        """Return the sums of all elements of `source`, or `max_elements` spread over it, and their groups.

        See `over_images`.
        """

        def of_batch(batch: Batch) -> Sums:
            sums: Sums = self._of_batch(variables, key, batch, num_draws)
            return sums

        return over_images(of_batch, source, self.mesh, self.batch_size, max_elements, progress)


def sums_over_noise(
    at: Callable[[Array, Array], Array], gamma: Schedule, keys: Keys, num_draws: Integer[ArrayLike, ""]
) -> Sums:
    """Sum over noise draws for the images with these keys, at stratified times with an offset for each image.

    `at` is (γ (batch,), stream of `image_noise`, 1 and up) → (batch, numbers).
    """
    offsets = image_uniform(keys, jnp.int32(0))
    low, high = gamma(jnp.float32(0)), gamma(jnp.float32(1))

    def add(d: Array, total: tuple[Array, Array]) -> tuple[Array, Array]:
        uniform, by_gamma = total
        u = stratum(offsets, d, num_draws)
        uniform += at(gamma(u), 2 * d + 2)
        # A schedule may spend little time at some γ, so uniform γ are drawn separately.
        numbers = at(low + (high - low) * u, 2 * d + 3)
        bins = jax.nn.one_hot(jnp.floor(u * GAMMA_BINS).astype(jnp.int32), GAMMA_BINS)
        counted = jnp.concatenate([jnp.ones_like(numbers[:, :1]), numbers], axis=1)
        return uniform, by_gamma + bins[:, :, None] * counted[:, None, :]

    clean = at(jnp.broadcast_to(low, keys.shape), jnp.int32(1))
    start = jnp.zeros_like(clean), jnp.zeros((*keys.shape, GAMMA_BINS, 1 + clean.shape[1]))
    uniform, by_gamma = jax.lax.fori_loop(0, num_draws, add, start)
    return Sums(uniform, by_gamma, clean)


def shares_over_noise(sums: Sums, num_draws: int, groups: Groups | None = None) -> list[Shares]:
    """Return the means of each number from the sums of all images."""
    uniform, by_gamma, clean = (np.asarray(each, np.float64) for each in sums)

    def share(of: np.ndarray, among: np.ndarray) -> Share | None:
        if not among.sum():
            return None
        value = of.sum() / among.sum()
        # The error of a ratio of two sums over images, to first order.
        return Share(float(value), stderr_over_images((of - value * among) / among.mean(), groups))

    return [
        Shares(
            Share.mean(uniform[:, k] / num_draws, groups),
            [share(by_gamma[:, bin, 1 + k], by_gamma[:, bin, 0]) for bin in range(GAMMA_BINS)],
            Share.mean(clean[:, k], groups),
        )
        for k in range(uniform.shape[1])
    ]


def by_gamma_record(edges: Float[np.ndarray, " edges"], shares: Sequence[Share | None]) -> list[dict[str, Any]]:
    """Return one dict per bin, as in `evaluation.json`."""
    rounded = [round(float(edge), 4) for edge in edges]
    return [
        {"gamma": list(ends), **({"value": None, "stderr": None} if share is None else asdict(share))}
        for ends, share in zip(pairwise(rounded), shares, strict=True)
    ]
