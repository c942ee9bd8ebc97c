"""The times t ∈ [0, 1) that a batch is trained or evaluated at."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, PRNGKeyArray


def iid(key: PRNGKeyArray, num: int) -> Float[Array, " num"]:
    """`num` independent uniform times."""
    return jax.random.uniform(key, (num,))


def stratified(key: PRNGKeyArray, num: int) -> Float[Array, " num"]:
    """t_k = (u + k/num) mod 1 with one uniform u: each time is uniform, and together they cover [0, 1) evenly.

    `num` must be the global batch, so that the strata are shared by all devices and hosts (Kingma et al. 2021, §I.1).
    """
    return _wrap(jax.random.uniform(key, ()) + jnp.arange(num, dtype=jnp.float32) / num)


def to_steps(t: Float[Array, " num"], num_steps: int) -> Integer[Array, " num"]:
    """The step i ∈ {1, …, num_steps} whose interval (i−1)/T ≤ t < i/T holds each time."""
    return jnp.minimum(jnp.floor(t * num_steps).astype(jnp.int32) + 1, num_steps)


def _wrap(t: Array) -> Array:
    return t - jnp.floor(t)
