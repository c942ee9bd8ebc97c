"""The image of a last latent z₀ under p(x|z₀): decodings (keys, z₀, γ(0), levels) -> image, int32 with the shape of z₀.

Each image has a key of its own, so that it is the same whatever batch it is drawn in.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from vdm import likelihoods
from vdm.gaussian import Gamma
from vdm.keys import Keys

Decoding = Callable[[Keys, Float[Array, "batch *data"], Gamma, int], Integer[Array, "batch *data"]]


def mode() -> Decoding:
    """The most probable value of each pixel: the one nearest to z₀/α₀.

    >>> keys = jax.random.split(jax.random.key(0), 1)
    >>> mode()(keys, jnp.asarray([[-1.0, 0.1, 1.0]]), -10.0, 4).tolist()
    [[0, 2, 3]]
    """
    return lambda keys, z_0, gamma_0, levels: likelihoods.mode(z_0, gamma_0, levels)


def mean() -> Decoding:
    """The mean of each pixel, rounded to the nearest value.

    >>> keys = jax.random.split(jax.random.key(0), 1)
    >>> mean()(keys, jnp.asarray([[-1.0, 0.1, 1.0]]), -10.0, 4).tolist()
    [[0, 2, 3]]
    """
    return lambda keys, z_0, gamma_0, levels: jnp.rint(likelihoods.mean(z_0, gamma_0, levels)).astype(jnp.int32)


def draw() -> Decoding:
    """A draw, with the key of the image.

    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> one, other = draw()(keys, jnp.zeros((2, 100)), 1.0, 256)
    >>> bool((one == other).all())
    False
    """

    def drawn(
        keys: Keys, z_0: Float[Array, "batch *data"], gamma_0: Gamma, levels: int
    ) -> Integer[Array, "batch *data"]:
        return jax.vmap(lambda key, z: likelihoods.sample(key, z[None], gamma_0, levels)[0])(keys, z_0)

    return drawn
