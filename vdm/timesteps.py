"""Times t ∈ [0, 1) at which a batch is trained or evaluated, and the corresponding steps of T-step models."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

Times = Callable[[PRNGKeyArray, int], Float[Array, " num"]]


def iid(key: PRNGKeyArray, num: int) -> Float[Array, " num"]:
    """Draw `num` independent uniform times."""
    return jax.random.uniform(key, (num,))


def stratified(key: PRNGKeyArray, num: int) -> Float[Array, " num"]:
    """Draw times t_k = (u + k/num) mod 1 with one uniform u: each is uniform, and together they cover [0, 1) evenly.

    `num` must be the size of the global batch, so that all devices and hosts share the strata (Kingma et al. 2021,
    §I.1).

    >>> t = stratified(jax.random.key(0), 4)
    >>> sorted((4 * t).astype(int).tolist())
    [0, 1, 2, 3]
    """
    return _wrap(jax.random.uniform(key, ()) + jnp.arange(num, dtype=jnp.float32) / num)


def to_steps(t: Float[Array, " num"], num_steps: Integer[ArrayLike, ""]) -> Integer[Array, " num"]:
    """Return the step i ∈ {1, …, T} whose interval (i−1)/T ≤ t < i/T contains each time, with T = `num_steps`."""
    steps = jnp.asarray(num_steps, jnp.int32)
    return jnp.minimum(jnp.floor(t * steps.astype(jnp.float32)).astype(jnp.int32) + 1, steps)


def importance(
    u: Float[Array, " num"], probabilities: Float[Array, " bins"]
) -> tuple[Float[Array, " num"], Float[Array, " num"]]:
    """Map uniform u to (t, p(t)), with t of density p: constant on equal bins of [0, 1) with these probabilities.

    t = F⁻¹(u) for the distribution function F, so evenly spaced u (e.g. stratified) give times that cover p evenly.
    f(t)/p(t) has the mean of f over uniform times, Eq. 4.114 of De Sousa Ribeiro & Glocker (2024). Probabilities must
    be positive and sum to 1.
    """
    num_bins = probabilities.shape[0]
    upper = jnp.cumsum(probabilities)
    k = jnp.minimum(jnp.searchsorted(upper, u, side="right"), num_bins - 1)
    within = (u - (upper[k] - probabilities[k])) / probabilities[k]
    # Rounding of the sums must not move a time out of its bin.
    t = (k.astype(jnp.float32) + jnp.clip(within, 0.0, 1.0)) / num_bins
    return jnp.minimum(t, ONE_BELOW), probabilities[k] * num_bins


def by_quantiles(
    u: Float[Array, " num"], quantiles: Float[ArrayLike, " points"]
) -> tuple[Float[Array, " num"], Float[Array, " num"]]:
    """Map uniform u to (t, 1/p(t)) with t = F⁻¹(u), where F⁻¹ interpolates linearly between `quantiles`.

    `quantiles` are the times at equally spaced u from 0 to 1: they go from 0 to 1 and never decrease. f(t)/p(t) has the
    mean of f over uniform times, as with `importance`.

    >>> t, measure = by_quantiles(jnp.array([0.25, 0.75]), jnp.array([0.0, 0.2, 1.0]))
    >>> t.tolist(), measure.tolist()
    ([0.10000000149011612, 0.6000000238418579], [0.4000000059604645, 1.600000023841858])
    """
    table = jnp.asarray(quantiles, jnp.float32)
    cells = table.shape[0] - 1
    k = jnp.clip(jnp.floor(u * cells).astype(jnp.int32), 0, cells - 1)
    width = table[k + 1] - table[k]
    t = table[k] + (u * cells - k.astype(jnp.float32)) * width
    return jnp.minimum(t, ONE_BELOW), width * cells


# The largest float32 below 1: times are below 1.
ONE_BELOW = float(np.nextafter(np.float32(1), np.float32(0)))


def _wrap(t: Array) -> Array:
    return t - jnp.floor(t)
