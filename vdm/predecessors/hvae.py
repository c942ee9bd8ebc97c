"""Hierarchical VAEs: T layers of latents, inferred from the top down or from the bottom up.

See De Sousa Ribeiro & Glocker (2024), §2.2 and §2.4.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdm.predecessors import coders, hierarchy
from vdm.predecessors.coders import Block, Coder, Coders, NormalHead
from vdm.predecessors.hierarchy import Path
from vdm.predecessors.latent import Eps, LatentModel, LatentNetwork, Observed
from vdm.predecessors.normal import Normal, relative, standard

Inference = Literal["top_down", "bottom_up"]
Features = Float[Array, "batch width"]


class Join(nn.Module):
    """Merge a new input into features by Block(h + W new), or by Block(W new) if there are no features yet."""

    width: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, new: Float[Array, "batch features"], h: Features | None = None) -> Features:
        """Return the merged features, in float32."""
        joined = nn.Dense(self.width, name="in")(new)
        return Block(self.dropout, self.dtype, name="block")(joined if h is None else h + joined)


class HVAE(LatentNetwork):
    """Hierarchical VAE with T layers of latent vectors: z_T ~ N(0, I), learned p(z_t|z_{t+1}), Eq. 2.14, and p(x|z_1).

    Layer t receives a vector s_t from the layers above it. With `skip`, s_t is the state of a deterministic path that
    every latent is merged into, so that a layer depends on all latents above it. Without it, s_t is a function of
    z_{t+1} alone, and the latents are a Markov chain.

    Top-down inference, Eq. 2.28: q(z_t|z_{t+1}, x) depends on s_t, which it shares with the prior (Sønderby et al.
    2016), and on deterministic features d_t of x, computed from the bottom up. Its mean and variance are relative to
    those of the prior (Vahdat & Kautz 2020, §3.2). Bottom-up inference, Eq. 2.17: q(z_1|x) depends on d_1, and the
    layers above it follow by q(z_t|z_{t−1}).
    """

    shape: Sequence[int]
    """Shape of one example."""
    layers: int
    """T, the number of latent layers."""
    latents: int
    """Number of latents in each layer."""
    width: int
    depth: int
    coder: Coder = "mlp"
    inference: Inference = "top_down"
    skip: bool = True
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.coders = Coders(self.coder, self.shape, self.width, self.depth, self.dropout, self.dtype)
        self.top = self.param("top", nn.initializers.zeros, (self.width,))
        self.priors = [NormalHead(self.latents) for _ in range(self.layers - 1)]
        self.posteriors = [NormalHead(self.latents) for _ in range(self.layers)]
        self.down = [self._join() for _ in range(self.layers)]
        if self.inference == "top_down":
            self.up = [Block(self.dropout, self.dtype) for _ in range(self.layers - 1)]
            self.meet = [self._join() for _ in range(self.layers)]
        else:
            self.ascent = [self._join() for _ in range(self.layers - 1)]

    def _join(self) -> Join:
        return Join(self.width, self.dropout, self.dtype)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of z_1 … z_T for one example."""
        return ((self.latents,),) * self.layers

    @property
    def needs_path(self) -> bool:
        """Whether q(z_T|…) depends on a draw of z_{T−1}."""
        return self.inference == "bottom_up" and self.layers > 1

    def above(self, batch_size: int) -> Features:
        """Return s_T, a learned vector."""
        return jnp.broadcast_to(self.top, (batch_size, self.width))

    def prior(self, t: int, state: Features) -> Normal:
        """Return p(z_t|z_{t+1}) from s_t."""
        if t == self.layers:
            return standard(jnp.zeros((len(state), self.latents)))
        return self.priors[t - 1](state)

    def descend(self, t: int, state: Features, z: Float[Array, "batch latents"]) -> Features:
        """Return s_{t−1} from s_t and z_t."""
        return self.down[t - 1](z, state if self.skip else None)

    def observe(self, state: Features) -> Observed:
        """Return p(x|z_1) from s_0."""
        return self.coders.decoder(state)

    def path(
        self, x: Float[Array, "batch *data"], eps: Eps, reconstruction: Callable[[Features], Float[Array, " batch"]]
    ) -> Path:
        """Draw z from q(z|x) once and return the terms of the bound."""
        d, above = self.coders.encoder(x), self.above(len(x))
        if self.inference == "bottom_up":

            def ascend(t: int, below: Float[Array, "batch latents"] | None) -> Normal:
                return self.posteriors[t - 1](d if below is None else self.ascent[t - 2](below))

            return hierarchy.bottom_up(ascend, self.prior, self.descend, reconstruction, above, eps)

        features = [d]
        for block in self.up:
            features.append(block(features[-1]))

        def layer(t: int, s: Features) -> tuple[Normal, Normal]:
            p = self.prior(t, s)
            return relative(self.posteriors[t - 1](self.meet[t - 1](features[t - 1], s)), p), p

        return hierarchy.top_down(layer, self.descend, reconstruction, above, eps)


def hvae(
    layers: int = 3,
    latents: int = 8,
    inference: Inference = "top_down",
    skip: bool = True,
    width: int = 128,
    depth: int = 2,
    coder: Coder = "mlp",
    dropout: float = 0.0,
    shape: tuple[int, ...] = (2,),
    levels: int = 0,
    dtype: str = "float32",
) -> LatentModel:
    """A hierarchical VAE with several layers of latents, inferred from the top down or from the bottom up.

    Each layer has a vector of `latents` values. `skip` adds a deterministic path beside the latents; without it they
    form a Markov chain. The other parameters are those of `vae`.

    >>> hvae(layers=2, latents=3, inference="bottom_up", width=8, shape=(8, 8, 1), levels=17).latent_shapes
    ((3,), (3,))
    """
    coders.check(coder, shape, width, depth)
    for name, value in (("layers", layers), ("latents", latents)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be 1 or more")
    network = HVAE(shape, layers, latents, width, depth, coder, inference, skip, dropout, jnp.dtype(dtype))
    return LatentModel(network, shape, levels)
