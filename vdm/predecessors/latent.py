"""Models with learned latents, z_T → … → z_1 → x: bounds, samples and reconstructions as functions of variables."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from vdm import gaussian, likelihoods, precisions
from vdm import model as model_lib
from vdm.keys import Keys, folded, image_keys, normal_per_image
from vdm.model import Variables
from vdm.predecessors import hierarchy
from vdm.predecessors.hierarchy import Path, State
from vdm.predecessors.normal import Normal

Eps = Sequence[Float[Array, "batch *dims"]]
"""Standard normal noise for z_1 … z_T."""


class Observed(NamedTuple):
    """p(x|z) for each value of x: the likelihood of `vdm.likelihoods` at z₀ = α₀ · center and γ₀ = gamma.

    >>> observed = Observed(jnp.zeros((1, 2)), jnp.full((1, 2), 20.0))
    >>> bits = observed.loss(jnp.zeros((1, 2), jnp.uint8), levels=4) / jnp.log(2)
    >>> bits.round(3).tolist()  # so much noise says nothing: 2 values of log₂ 4 bits
    [4.0]
    """

    center: Float[Array, "batch *data"]
    """Center of the distribution, in the units of encoded x: [−1, 1] for integer data."""
    gamma: Float[Array, "batch *data"]
    """γ₀ of each value: the log variance of x around the center."""

    @property
    def z_0(self) -> Float[Array, "batch *data"]:
        """z₀ as `vdm.likelihoods` and `vdm.decodings` take it, together with γ₀ = gamma."""
        return gaussian.alpha(self.gamma) * self.center

    def loss(self, image: likelihoods.Data, levels: int) -> Float[Array, " batch"]:
        """Return −log p(x|z) in nats, summed over the values of each example."""
        return -likelihoods.log_prob(image, self.z_0, self.gamma, levels)


class LatentNetwork(nn.Module):
    """The interface that a `LatentModel` needs of its network: the layers of a hierarchy.

    Parameters are its only variables. Dropout is active if there is an RNG stream "dropout".
    """

    @property
    @abstractmethod
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of z_1 … z_T for one example."""

    @property
    def needs_path(self) -> bool:
        """Whether q(z_T|…) depends on draws of the layers below, as in bottom-up inference."""
        return False

    @abstractmethod
    def above(self, batch_size: int) -> State:
        """Return the state that z_T receives, although no layer is above it."""

    @abstractmethod
    def prior(self, t: int, state: State) -> Normal:
        """Return p(z_t|z_{t+1})."""

    @abstractmethod
    def descend(self, t: int, state: State, z: Float[Array, "batch *dims"]) -> State:
        """Return the state for the layer below z_t."""

    @abstractmethod
    def observe(self, state: State) -> Observed:
        """Return p(x|z_1) from the state below z_1."""

    @abstractmethod
    def path(
        self, x: Float[Array, "batch *data"], eps: Eps, reconstruction: Callable[[State], Float[Array, " batch"]]
    ) -> Path:
        """Draw z from q(z|x) once, given encoded x, and return the terms of the bound."""

    def __call__(self, x: Float[Array, "batch *data"], eps: Eps) -> Path:
        """Run every layer, to initialize the parameters; the reconstruction term is a placeholder."""
        return self.path(x, eps, lambda state: jnp.sum(self.observe(state).center, axis=range(1, x.ndim)))


@dataclass(frozen=True)
class LatentModel:
    """A VAE or hierarchical VAE. It is stateless: its variables {"network": …} are passed to each method.

    >>> import jax
    >>> from vdm.predecessors.vae import vae
    >>> model = vae(latents=2, width=8, depth=1, shape=(4, 4, 1), levels=17)
    >>> variables = model.init(jax.random.key(0))
    >>> image = jnp.zeros((3, 4, 4, 1), jnp.uint8)
    >>> path = model.path(variables, image, model.draw(jax.random.key(1), 3))
    >>> path.bound.shape, len(path.rates)
    ((3,), 1)
    """

    network: LatentNetwork
    shape: tuple[int, ...]
    """Shape of one example."""
    levels: int
    """Number of values of integer data, or `likelihoods.REAL` for real vectors."""
    precision: str = precisions.FLOAT32
    """Precision of the network's computation, e.g. "bfloat16"."""

    @property
    def num_dims(self) -> int:
        """Number of data dimensions of one example, the divisor in bits/dim."""
        return math.prod(self.shape)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of z_1 … z_T for one example."""
        return self.network.latent_shapes

    @property
    def num_layers(self) -> int:
        """T, the number of latent layers."""
        return len(self.latent_shapes)

    def computed_in(self, precision: str) -> "LatentModel":
        """Return the same model, with the same variables, in another precision; raises as `Model.computed_in` does."""
        network = cast(LatentNetwork, model_lib.in_dtype(self.network, precisions.dtype(precision)))
        return replace(self, network=network, precision=precision)

    def init(self, key: PRNGKeyArray) -> Variables:
        """Return newly initialized variables."""
        eps = [jnp.zeros((1, *shape)) for shape in self.latent_shapes]
        variables = dict(self.network.init(key, jnp.zeros((1, *self.shape)), eps))
        params = variables.pop("params", {})
        if variables:
            raise ValueError(f"network: has variables {', '.join(variables)}; must have parameters alone")
        return {"network": params}

    def draw(self, key: PRNGKeyArray, batch_size: int) -> tuple[Float[Array, "batch *dims"], ...]:
        """Draw the noise of z_1 … z_T. The noise of image k depends only on the key and k."""
        return self.draw_each(image_keys(key, batch_size))

    def draw_each(self, keys: Keys) -> tuple[Float[Array, "batch *dims"], ...]:
        """Draw the noise of z_1 … z_T, with one key for each image."""
        batch = len(keys)
        return tuple(normal_per_image(folded(keys, t), (batch, *s)) for t, s in enumerate(self.latent_shapes, 1))

    def path(
        self,
        variables: Variables,
        image: likelihoods.Data,
        eps: Eps,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Path:
        """Draw the latents once given images and return the terms of the bound in nats. A key turns dropout on."""
        self._check_eps(eps)
        x = likelihoods.encode(image, self.levels)
        network = self._network(variables, dropout_key)
        with precisions.products(self.precision):
            return network.path(x, eps, lambda state: network.observe(state).loss(image, self.levels))

    def posterior(self, variables: Variables, image: likelihoods.Data, eps: Eps | None = None) -> Normal:
        """Return q(z_T|x).

        With bottom-up inference and T > 1, return q(z_T|z_{T−1}) at a draw of z_{T−1} with the noise `eps`, and raise
        ValueError if that is None.
        """
        if eps is None and self.network.needs_path:
            raise ValueError("eps=None: must be the noise of z_1 … z_T, for inference is from the bottom up")
        if eps is None:
            eps = [jnp.zeros((len(image), *shape)) for shape in self.latent_shapes]
        return self.path(variables, image, eps).posteriors[-1]

    def generate(self, variables: Variables, eps: Eps, top: Float[Array, "batch *dims"] | None = None) -> Observed:
        """Return p(x|z_1) for latents drawn from the prior with this noise. `top`, if given, replaces z_T."""
        self._check_eps(eps)
        network = self._network(variables)
        with precisions.products(self.precision):
            above = network.above(len(eps[0]))
            return network.observe(hierarchy.ancestral(network.prior, network.descend, above, eps, top))

    def decode(self, variables: Variables, latents: Sequence[Float[Array, "batch *dims"]]) -> Observed:
        """Return p(x|z_1) for given latents z_1 … z_T."""
        network = self._network(variables)
        with precisions.products(self.precision):
            return network.observe(hierarchy.descended(network.descend, network.above(len(latents[0])), latents))

    def reconstruct(self, variables: Variables, image: likelihoods.Data, eps: Eps) -> Observed:
        """Return p(x|z_1) for latents drawn from q(z|x)."""
        return self.decode(variables, self.path(variables, image, eps).latents)

    def _network(self, variables: Variables, dropout_key: PRNGKeyArray | None = None) -> LatentNetwork:
        rngs: Any = None if dropout_key is None else {"dropout": dropout_key}
        network: LatentNetwork = self.network.bind({"params": variables["network"]}, rngs=rngs)
        return network

    def _check_eps(self, eps: Eps) -> None:
        if tuple(each.shape[1:] for each in eps) != self.latent_shapes:
            wanted = ", ".join(str(("batch", *shape)).replace("'", "") for shape in self.latent_shapes)
            raise ValueError(f"eps has shapes {', '.join(str(each.shape) for each in eps)}: must be {wanted}")
