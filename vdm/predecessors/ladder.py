"""The ladder network: a denoising autoencoder with feedback from above at every layer (§2.3, Fig. 2.3).

Valpola (2015); Rasmus et al. (2015), in the notation of De Sousa Ribeiro & Glocker (2024): one encoder gives noisy z_t
and clean d_t, denoising functions ẑ_t = g_t(z_t, ẑ_{t+1}) go back down, and each layer has a cost ‖ẑ_t − d_t‖² of its
own. Layer 0 is the image: d_0 = x. Of Rasmus et al. it differs in one thing, that ẑ_t is compared with d_t as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num, PRNGKeyArray

from vdm import likelihoods, precisions
from vdm import model as model_lib
from vdm.keys import Keys, folded, image_keys, normal_per_image
from vdm.model import Variables

Image = Num[Array, "batch *data"]
"""Integers 0 … levels − 1, or real vectors."""
Layers = tuple[Float[Array, "batch _"], ...]
"""One array a layer, from the image (flattened) up."""

EPSILON = 1e-5
"""Added to variances."""


class Moments(NamedTuple):
    """Of each unit, over images."""

    mean: Float[Array, "1 width"]
    var: Float[Array, "1 width"]


class Statistics(NamedTuple):
    """What batch normalisation divides out: of a batch while training, else of many training images, once for all."""

    noisy: tuple[Moments, ...]
    """Of W_t h_{t−1} on the noisy path, t = 1 … T."""
    clean: tuple[Moments, ...]
    feedback: tuple[Moments, ...]
    """Of what comes down to layer t, t = 0 … T."""


class Pass(NamedTuple):
    """What a ladder network makes of images, layer by layer."""

    noisy: Layers
    """z_0 … z_T."""
    clean: Layers
    """d_0 … d_T."""
    denoised: Layers
    """ẑ_0 … ẑ_T."""
    noisy_top: Float[Array, "batch width"]
    """What the top's activation is of: logits, where there are classes."""
    clean_top: Float[Array, "batch width"]
    statistics: Statistics
    """Those that it was normalised by."""

    @property
    def costs(self) -> tuple[Float[Array, " batch"], ...]:
        """‖ẑ_t − d_t‖²/dims of each layer and image."""
        return tuple(jnp.mean(jnp.square(z - d), axis=1) for z, d in zip(self.denoised, self.clean, strict=True))


def normalized(h: Float[Array, "batch width"], given: Moments | None) -> tuple[Float[Array, "batch width"], Moments]:
    """(h less its mean, over its standard deviation; the moments): the given ones, or those of the batch.

    >>> z, found = normalized(jnp.array([[1.0], [3.0]]), None)
    >>> z.round(3).tolist(), found.mean.tolist()
    ([[-1.0], [1.0]], [[2.0]])
    """
    if given is None:
        given = Moments(jnp.mean(h, axis=0, keepdims=True), jnp.var(h, axis=0, keepdims=True))
    return (h - given.mean) * jax.lax.rsqrt(given.var + EPSILON), given


class Encoder(nn.Module):
    """z_t = normalised W_t h_{t−1} + noise with h_t = activation(a ⊙ (z_t + b)): rectified, at the top not here."""

    widths: tuple[int, ...]
    """Of the layers above the image."""
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch width"], noise: Sequence[Array] | None, given: Sequence[Moments] | None
    ) -> tuple[Layers, Float[Array, "batch _"], tuple[Moments, ...]]:
        """(z_0 … z_T, what the top's activation is of, the moments by which they are normalised)."""
        z = x if noise is None else x + noise[0]
        layers, found, h = [z], [], z
        for t, width in enumerate(self.widths, 1):
            pre = nn.Dense(width, use_bias=False, dtype=self.dtype, name=f"weights_{t}")(h).astype(jnp.float32)
            z, moments = normalized(pre, None if given is None else given[t - 1])
            z = z if noise is None else z + noise[t]
            b = self.param(f"shift_{t}", nn.initializers.zeros, (width,))
            a = self.param(f"scale_{t}", nn.initializers.ones, (width,))
            top = a[None] * (z + b[None])
            h = nn.relu(top)
            layers.append(z)
            found.append(moments)
        return tuple(layers), top, tuple(found)


class Denoiser(nn.Module):
    """g(z, u) = (z − μ(u)) υ(u) + μ(u), of each unit by itself (Rasmus et al. 2015).

    μ and υ are a_1 sigmoid(a_2 u + a_3) + a_4 u + a_5, each with five numbers a unit of its own: the best estimate of
    a Gaussian z from z + noise, whose mean and variance depend on what is above. At first g(z, u) = z.
    """

    @nn.compact
    def __call__(self, z: Float[Array, "batch width"], u: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
        """ẑ of noisy z and the feedback u from above."""

        def curve(name: str, constant: float) -> Array:
            def start(key: PRNGKeyArray, shape: Sequence[int]) -> Array:
                return jnp.broadcast_to(jnp.array([0, 1, 0, 0, constant])[:, None], shape)

            a = self.param(name, start, (5, z.shape[1]))[:, None]
            return a[0] * nn.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]

        mean = curve("mean", 0.0)
        return (z - mean) * curve("slope", 1.0) + mean


class Ladder(nn.Module):
    """The network on vectors: x (batch, widths[0]) and one noise array a layer in, a `Pass` out."""

    widths: tuple[int, ...]
    """Of layers 0 … T; layer 0 is the image."""
    noise: float
    """Standard deviation of the noise of every layer."""
    classifies: bool = False
    """Whether the top is one unit a class, with a softmax."""
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.encoder = Encoder(self.widths[1:], self.dtype)
        self.feedback = [nn.Dense(width, use_bias=False, dtype=self.dtype) for width in self.widths[:-1]]
        self.denoisers = [Denoiser() for _ in self.widths]

    def __call__(self, x: Float[Array, "batch width"], eps: Layers, given: Statistics | None = None) -> Pass:
        """`eps` is standard normal, (batch, width) a layer; without `given` statistics are those of this batch."""
        noise = [self.noise * each for each in eps]
        noisy, top, of_noisy = self.encoder(x, noise, None if given is None else given.noisy)
        clean, clean_top, of_clean = self.encoder(x, None, None if given is None else given.clean)
        denoised: list[Array] = []
        of_feedback: list[Moments] = []
        for t in reversed(range(len(self.widths))):
            down = self.feedback[t](denoised[-1]).astype(jnp.float32) if denoised else self._activation(top)
            u, moments = normalized(down, None if given is None else given.feedback[t])
            denoised.append(self.denoisers[t](noisy[t], u))
            of_feedback.append(moments)
        statistics = Statistics(of_noisy, of_clean, tuple(reversed(of_feedback)))
        return Pass(noisy, clean, tuple(reversed(denoised)), top, clean_top, statistics)

    def clean_top(self, x: Float[Array, "batch width"], given: Statistics) -> Float[Array, "batch _"]:
        """What the top's activation is of on the clean path alone."""
        return self.encoder(x, None, given.clean)[1]

    def _activation(self, top: Array) -> Array:
        return nn.softmax(top) if self.classifies else nn.relu(top)


@dataclass(frozen=True)
class LadderNetwork:
    """A ladder network of images; stateless, its variables {"network": …} are passed in.

    >>> model = ladder(layers=(8, 4), shape=(4, 4, 1), levels=17)
    >>> variables, eps = model.init(jax.random.key(0)), model.draw(jax.random.key(1), 5)
    >>> image = jnp.arange(80).reshape(5, 4, 4, 1) % 17
    >>> [cost.shape for cost in model(variables, image, eps).costs]
    [(5,), (5,), (5,)]
    """

    network: Ladder
    shape: tuple[int, ...]
    levels: int
    costs: tuple[float, ...]
    """λ_0 … λ_T, the weights of the layers' costs."""
    labelled: float = 0.0
    """Share of the training images whose labels count; 0: it has no classes."""
    weight: float = 1.0
    """That of the cross-entropy, beside the costs'."""
    precision: str = precisions.FLOAT32
    """What the network computes in."""

    @property
    def num_dims(self) -> int:
        """Of an image."""
        return self.network.widths[0]

    @property
    def num_layers(self) -> int:
        """T, without the image."""
        return len(self.network.widths) - 1

    def computed_in(self, precision: str) -> "LadderNetwork":
        """The same model, of the same variables, in another precision; raises as `Model.computed_in`."""
        network: Any = model_lib.in_dtype(self.network, precisions.dtype(precision))
        return replace(self, network=network, precision=precision)

    def init(self, key: PRNGKeyArray) -> Variables:
        """Fresh variables."""
        none = tuple(jnp.zeros((1, width)) for width in self.network.widths)
        return {"network": self.network.init(key, none[0], none)["params"]}

    def draw(self, key: PRNGKeyArray, batch_size: int) -> Layers:
        """Standard normal noise of every layer, (batch, width) each. That of image k depends on the key and k alone."""
        return self.draw_each(image_keys(key, batch_size))

    def draw_each(self, keys: Keys) -> Layers:
        """The same, each image's from its own key."""
        widths = self.network.widths
        return tuple(normal_per_image(folded(keys, t), (len(keys), width)) for t, width in enumerate(widths))

    def __call__(self, variables: Variables, image: Image, eps: Layers, statistics: Statistics | None = None) -> Pass:
        """All layers, normalised by `statistics`, or without any by those of this batch, as in training."""
        with precisions.products(self.precision):
            return self._bound(variables)(self._flat(image), eps, statistics)

    def calibrate(self, variables: Variables, image: Image, eps: Layers) -> Statistics:
        """Statistics of many training images at once, by which nothing depends on a batch (Wu & Johnson 2021)."""
        return self(variables, image, eps).statistics

    def denoise(
        self, variables: Variables, statistics: Statistics, image: Image, eps: Layers
    ) -> Float[Array, "batch *data"]:
        """x̂ = ẑ_0 of noisy images and layers, in the units of x: [−1, 1] for integer images."""
        return self(variables, image, eps, statistics).denoised[0].reshape(image.shape)

    def log_prob(self, variables: Variables, statistics: Statistics, image: Image) -> Float[Array, "batch classes"]:
        """log p(c|x) of every class, by the clean path. Raises ValueError for a network without classes."""
        if not self.labelled:
            raise ValueError("labelled=0: the network has no classes")
        with precisions.products(self.precision):
            top = self._bound(variables).clean_top(self._flat(image), statistics)
        return jax.nn.log_softmax(top)

    def _bound(self, variables: Variables) -> Ladder:
        network: Ladder = self.network.bind({"params": variables["network"]})
        return network

    def _flat(self, image: Image) -> Float[Array, "batch dims"]:
        return likelihoods.encode(image, self.levels).reshape(image.shape[0], -1)


def ladder(
    layers: tuple[int, ...] = (256, 64, 16),
    noise: float = 0.3,
    costs: tuple[float, ...] | None = None,
    labelled: float = 0.0,
    weight: float = 1.0,
    shape: tuple[int, ...] = (2,),
    levels: int = 0,
    classes: int | None = None,
    dtype: str = "float32",
) -> LadderNetwork:
    """A ladder network with `layers` units above the image, and where labels count a top of `classes` (Rasmus 2015).

    `noise` is the standard deviation at every layer. `costs` are the weights of the layers' costs, from the image up;
    None: 1 of the image, 0.1 of each layer above. `labelled` is the share of the training images whose labels count, by
    cross-entropy with `weight`. Raises ValueError for sizes that do not go together.

    >>> ladder(labelled=0.1, shape=(8, 8, 1), levels=17, classes=10).network.widths
    (64, 256, 64, 16, 10)
    """
    if not layers or min(layers) < 1:
        raise ValueError(f"layers={layers}: must be one or more, each of 1 unit or more")
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise={noise}: must be 0 or more")
    if not 0 <= labelled <= 1:
        raise ValueError(f"labelled={labelled}: must be from 0 to 1")
    if labelled and not classes:
        raise ValueError(f"labelled={labelled}: the data have no classes; must be 0")
    widths = (math.prod(shape), *layers, *([classes] if labelled and classes else []))
    if costs is None:
        costs = (1.0, *[0.1] * (len(widths) - 1))
    if not 0 <= weight < float("inf"):
        raise ValueError(f"weight={weight}: must be 0 or more")
    if len(costs) != len(widths) or not all(0 <= cost < float("inf") for cost in costs):
        raise ValueError(f"costs={costs}: must be {len(widths)} numbers of 0 or more, from the image up")
    network = Ladder(widths, noise, bool(labelled), jnp.dtype(dtype))
    return LadderNetwork(network, shape, levels, costs, labelled, weight)
