"""Importance-weighted bounds on log p(x) from K draws of the latents (Burda et al. 2016)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm.keys import Keys, folded
from vdm.probability_flow import importance_weighted


def log_weights(
    log_weight: Callable[[Keys], Float[Array, " batch"]], keys: Keys, draws: int
) -> Float[Array, "draws batch"]:
    """Return log p(x, z)/q(z|x) for several draws, computed one after another so that memory is that of one draw.

    `log_weight` receives one key for each image. For draw k these are the keys of the images with k folded in.

    >>> keys = jax.vmap(jax.random.key)(jnp.arange(2))
    >>> log_weights(lambda keys: jnp.zeros(len(keys)), keys, 5).shape
    (5, 2)
    """
    return jax.lax.map(lambda k: log_weight(folded(keys, k)), jnp.arange(draws))


def bound(log_weights: Float[Array, "draws batch"]) -> Float[Array, " batch"]:
    """Return −log (1/K) Σ_k w_k in nats from the log weights of K draws: Eq. 8 of Burda et al. (2016), negated.

    Its expectation is at least −log p(x), never increases with K, and tends to −log p(x).

    >>> round(float(bound(jnp.log(jnp.array([[1.0], [3.0]])))[0]), 4)  # −log 2
    -0.6931
    """
    return importance_weighted(-log_weights)
