"""Decoding of a final latent z₀ into an image under p(x|z₀): (keys, z₀, γ(0), levels) -> image, shape of z₀.

The image is int32, or float32 for real-valued data. Each image has its own key, so that it does not depend on the batch
in which it is decoded.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vdm import gaussian, likelihoods
from vdm.gaussian import Gamma
from vdm.keys import Keys

Decoding = Callable[[Keys, Float[Array, "batch *data"], Gamma, int], likelihoods.Data]


def mode() -> Decoding:
    """The most probable value of each pixel: the one nearest to z₀/α₀.

    >>> keys = jax.random.split(jax.random.key(0), 1)
    >>> mode()(keys, jnp.asarray([[-1.0, 0.1, 1.0]]), -10.0, 4).tolist()
    [[0, 2, 3]]
    """
    return lambda keys, z_0, gamma_0, levels: likelihoods.mode(z_0, gamma_0, levels)


def mean() -> Decoding:
    """The mean of each pixel, rounded to the nearest value for integer data.

    >>> keys = jax.random.split(jax.random.key(0), 1)
    >>> mean()(keys, jnp.asarray([[-1.0, 0.1, 1.0]]), -10.0, 4).tolist()
    [[0, 2, 3]]
    """

    def decoded(keys: Keys, z_0: Float[Array, "batch *data"], gamma_0: Gamma, levels: int) -> likelihoods.Data:
        values = likelihoods.mean(z_0, gamma_0, levels)
        return values if levels == likelihoods.REAL else jnp.rint(values).astype(jnp.int32)

    return decoded


def draw() -> Decoding:
    """A random draw, with each image's own key.

    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> one, other = draw()(keys, jnp.zeros((2, 100)), 1.0, 256)
    >>> bool((one == other).all())
    False
    """

    def drawn(keys: Keys, z_0: Float[Array, "batch *data"], gamma_0: Gamma, levels: int) -> likelihoods.Data:
        gamma = jnp.broadcast_to(gaussian.expand(gamma_0, z_0), z_0.shape)
        return jax.vmap(lambda key, z, g: likelihoods.sample(key, z[None], g[None], levels)[0])(keys, z_0, gamma)

    return drawn
