"""The variational autoencoder: one layer of latents (Kingma & Welling 2013; De Sousa Ribeiro & Glocker 2024, §2.1)."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.predecessors import coders, hierarchy
from vdm.predecessors.coders import Coder, Coders, NormalHead
from vdm.predecessors.hierarchy import Path
from vdm.predecessors.latent import Eps, LatentModel, LatentNetwork, Observed
from vdm.predecessors.normal import Normal, standard


class VAE(LatentNetwork):
    """VAE with prior z ~ N(0, I), a decoder p(x|z) and an encoder q(z|x), normal with diagonal covariance.

    The bound is Eq. 2.11, with the expectation estimated at one draw z = μ(x) + σ(x) ε and the KL in closed form.
    """

    shape: Sequence[int]
    latents: int
    width: int
    depth: int
    coder: Coder = "mlp"
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.coders = Coders(self.coder, self.shape, self.width, self.depth, self.dropout, self.dtype)
        self.posterior = NormalHead(self.latents)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of z for one example, as the only entry of a tuple."""
        return ((self.latents,),)

    def above(self, batch_size: int) -> Float[Array, "batch latents"]:
        """Return the mean of the prior."""
        return jnp.zeros((batch_size, self.latents))

    def prior(self, t: int, state: Float[Array, "batch latents"]) -> Normal:
        """Return p(z), a standard normal."""
        return standard(state)

    def descend(self, t: int, state: Array, z: Float[Array, "batch latents"]) -> Float[Array, "batch latents"]:
        """Return z itself."""
        return z

    def observe(self, state: Float[Array, "batch latents"]) -> Observed:
        """Return p(x|z)."""
        return self.coders.decoder(state)

    def path(
        self, x: Float[Array, "batch *data"], eps: Eps, reconstruction: Callable[[Array], Float[Array, " batch"]]
    ) -> Path:
        """Draw z from q(z|x) once and return the terms of the bound."""

        def layer(t: int, state: Array) -> tuple[Normal, Normal]:
            return self.posterior(self.coders.encoder(x)), self.prior(t, state)

        return hierarchy.top_down(layer, self.descend, reconstruction, self.above(len(x)), eps)


def vae(
    latents: int = 2,
    width: int = 128,
    depth: int = 2,
    coder: Coder = "mlp",
    dropout: float = 0.0,
    shape: tuple[int, ...] = (2,),
    levels: int = 0,
    dtype: str = "float32",
) -> LatentModel:
    """A VAE with a single vector of latents (Kingma & Welling 2013).

    `width` and `depth` are those of encoder and decoder: `coder` "mlp" for any flattened data, or "conv" for images.
    Raises ValueError for sizes that are out of range, or for a coder that does not fit the shape of the data.

    >>> vae(latents=3, width=8, shape=(8, 8, 1), levels=17).latent_shapes
    ((3,),)
    """
    coders.check(coder, shape, width, depth)
    if latents < 1:
        raise ValueError(f"latents={latents}: must be 1 or more")
    return LatentModel(VAE(shape, latents, width, depth, coder, dropout, jnp.dtype(dtype)), shape, levels)
