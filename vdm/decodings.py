"""The image of a last latent z₀ under p(x|z₀): decodings (keys, z₀, γ(0), levels) -> image, with the shape of z₀.

It is int32, or float32 of real numbers. Each image has a key of its own, so that it is the same whatever batch it is
drawn in.
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
    """The mean of each pixel, of integers rounded to the nearest value.

    >>> keys = jax.random.split(jax.random.key(0), 1)
    >>> mean()(keys, jnp.asarray([[-1.0, 0.1, 1.0]]), -10.0, 4).tolist()
    [[0, 2, 3]]
    """

    def decoded(keys: Keys, z_0: Float[Array, "batch *data"], gamma_0: Gamma, levels: int) -> likelihoods.Data:
        values = likelihoods.mean(z_0, gamma_0, levels)
        return values if levels == likelihoods.REAL else jnp.rint(values).astype(jnp.int32)

    return decoded


def draw() -> Decoding:
    """A draw, with the key of the image.

    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> one, other = draw()(keys, jnp.zeros((2, 100)), 1.0, 256)
    >>> bool((one == other).all())
    False
    """

    def drawn(keys: Keys, z_0: Float[Array, "batch *data"], gamma_0: Gamma, levels: int) -> likelihoods.Data:
        gamma = jnp.broadcast_to(gaussian.expand(gamma_0, z_0), z_0.shape)
        return jax.vmap(lambda key, z, g: likelihoods.sample(key, z[None], g[None], levels)[0])(keys, z_0, gamma)

    return drawn
