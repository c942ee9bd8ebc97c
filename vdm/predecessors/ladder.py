"""The ladder network: a denoising autoencoder with feedback from above at every layer (§2.3, Fig. 2.3).

It is the network of Valpola (2015) and Rasmus et al. (2015), in the notation of De Sousa Ribeiro & Glocker (2024). One
encoder computes noisy activations z_t and clean ones d_t, denoising functions ẑ_t = g_t(z_t, ẑ_{t+1}) lead back down,
and each layer has its own cost ‖ẑ_t − d_t‖². Layer 0 is the image: d_0 = x. There is one difference from Rasmus et al.:
ẑ_t is compared with d_t without being normalized first.
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
"""Integers from 0 to levels − 1, or real vectors."""
Layers = tuple[Float[Array, "batch _"], ...]
"""One array for each layer, from the flattened image up."""

EPSILON = 1e-5
"""Added to variances before division."""


class Moments(NamedTuple):
    """Mean and variance of each unit over images."""

    mean: Float[Array, "1 width"]
    var: Float[Array, "1 width"]


class Statistics(NamedTuple):
    """Moments for batch normalization: those of the batch in training, otherwise fixed ones of many training images."""

    noisy: tuple[Moments, ...]
    """Moments of W_t h_{t−1} on the noisy path, t = 1 … T."""
    clean: tuple[Moments, ...]
    """The same on the clean path."""
    feedback: tuple[Moments, ...]
    """Moments of the feedback that layer t receives from above, t = 0 … T."""


class Pass(NamedTuple):
    """The output of a ladder network for a batch of images, layer by layer."""

    noisy: Layers
    """z_0 … z_T."""
    clean: Layers
    """d_0 … d_T."""
    denoised: Layers
    """ẑ_0 … ẑ_T."""
    noisy_top: Float[Array, "batch width"]
    """Pre-activation of the top layer on the noisy path: the logits if there are classes."""
    clean_top: Float[Array, "batch width"]
    """The same on the clean path."""
    statistics: Statistics
    """The statistics that normalized this pass."""

    @property
    def costs(self) -> tuple[Float[Array, " batch"], ...]:
        """‖ẑ_t − d_t‖²/dims for each layer and image, without the weights λ_t."""
        return tuple(jnp.mean(jnp.square(z - d), axis=1) for z, d in zip(self.denoised, self.clean, strict=True))


def normalized(h: Float[Array, "batch width"], given: Moments | None) -> tuple[Float[Array, "batch width"], Moments]:
    """Standardize h by the given moments, or by those of the batch, and return it with these moments.

    >>> z, found = normalized(jnp.array([[1.0], [3.0]]), None)
    >>> z.round(3).tolist(), found.mean.tolist()
    ([[-1.0], [1.0]], [[2.0]])
    """
    if given is None:
        given = Moments(jnp.mean(h, axis=0, keepdims=True), jnp.var(h, axis=0, keepdims=True))
    return (h - given.mean) * jax.lax.rsqrt(given.var + EPSILON), given


class Encoder(nn.Module):
    """Layers z_t = normalize(W_t h_{t−1}) + noise with h_t = relu(a ⊙ (z_t + b)); the top is left without relu."""

    widths: tuple[int, ...]
    """Widths of the layers above the image."""
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch width"], noise: Sequence[Array] | None, given: Sequence[Moments] | None
    ) -> tuple[Layers, Float[Array, "batch _"], tuple[Moments, ...]]:
        """Return (z_0 … z_T, the pre-activation of the top, the moments that normalized the layers)."""
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
    """Denoising function g(z, u) = (z − μ(u)) υ(u) + μ(u), applied to each unit separately (Rasmus et al. 2015).

    μ and υ have the form a_1 sigmoid(a_2 u + a_3) + a_4 u + a_5, each with its own five parameters per unit. This is
    the form of the optimal estimate of a Gaussian z from z + noise when its mean and variance depend on the layers
    above. At initialization, g(z, u) = z.
    """

    @nn.compact
    def __call__(self, z: Float[Array, "batch width"], u: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
        """Return ẑ from the noisy z and the feedback u from above."""

        def curve(name: str, constant: float) -> Array:
            def start(key: PRNGKeyArray, shape: Sequence[int]) -> Array:
                return jnp.broadcast_to(jnp.array([0, 1, 0, 0, constant])[:, None], shape)

            a = self.param(name, start, (5, z.shape[1]))[:, None]
            return a[0] * nn.sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]

        mean = curve("mean", 0.0)
        return (z - mean) * curve("slope", 1.0) + mean


class Ladder(nn.Module):
    """The network on vectors: it maps x (batch, widths[0]) and one noise array per layer to a `Pass`."""

    widths: tuple[int, ...]
    """Widths of layers 0 … T; layer 0 is the image."""
    noise: float
    """Standard deviation of the noise at every layer."""
    classifies: bool = False
    """Whether the top layer is a softmax with one unit per class."""
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.encoder = Encoder(self.widths[1:], self.dtype)
        self.feedback = [nn.Dense(width, use_bias=False, dtype=self.dtype) for width in self.widths[:-1]]
        self.denoisers = [Denoiser() for _ in self.widths]

    def __call__(self, x: Float[Array, "batch width"], eps: Layers, given: Statistics | None = None) -> Pass:
        """Run both paths. `eps` is standard normal, (batch, width) per layer; `given` replaces batch statistics."""
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
        """Return the pre-activation of the top layer, computing the clean path only."""
        return self.encoder(x, None, given.clean)[1]

    def _activation(self, top: Array) -> Array:
        return nn.softmax(top) if self.classifies else nn.relu(top)


@dataclass(frozen=True)
class LadderNetwork:
    """A ladder network for images. It is stateless: its variables {"network": …} are passed to each method.

    >>> model = ladder(layers=(8, 4), shape=(4, 4, 1), levels=17)
    >>> variables, eps = model.init(jax.random.key(0)), model.draw(jax.random.key(1), 5)
    >>> image = jnp.arange(80).reshape(5, 4, 4, 1) % 17
    >>> [cost.shape for cost in model(variables, image, eps).costs]
    [(5,), (5,), (5,)]
    """

    network: Ladder
    shape: tuple[int, ...]
    """Shape of one image."""
    levels: int
    """Number of values of integer data, or `likelihoods.REAL` for real vectors."""
    costs: tuple[float, ...]
    """λ_0 … λ_T, the weights of the layers' costs."""
    labelled: float = 0.0
    """Share of the training images whose labels are used. With 0 the network has no classes."""
    weight: float = 1.0
    """Weight of the cross-entropy in the loss."""
    precision: str = precisions.FLOAT32
    """Precision of the network's computation, e.g. "bfloat16"."""

    @property
    def num_dims(self) -> int:
        """Number of data dimensions of one image."""
        return self.network.widths[0]

    @property
    def num_layers(self) -> int:
        """T, not counting the image."""
        return len(self.network.widths) - 1

    def computed_in(self, precision: str) -> "LadderNetwork":
        """Return the same model, with the same variables, in another precision; raises as `Model.computed_in` does."""
        network: Any = model_lib.in_dtype(self.network, precisions.dtype(precision))
        return replace(self, network=network, precision=precision)

    def init(self, key: PRNGKeyArray) -> Variables:
        """Return newly initialized variables."""
        none = tuple(jnp.zeros((1, width)) for width in self.network.widths)
        return {"network": self.network.init(key, none[0], none)["params"]}

    def draw(self, key: PRNGKeyArray, batch_size: int) -> Layers:
        """Draw the noise of every layer, (batch, width) each. The noise of image k depends only on the key and k."""
        return self.draw_each(image_keys(key, batch_size))

    def draw_each(self, keys: Keys) -> Layers:
        """Draw the noise of every layer, with one key for each image."""
        widths = self.network.widths
        return tuple(normal_per_image(folded(keys, t), (len(keys), width)) for t, width in enumerate(widths))

    def __call__(self, variables: Variables, image: Image, eps: Layers, statistics: Statistics | None = None) -> Pass:
        """Compute all layers, normalized by `statistics` or, if None, by those of this batch, as in training."""
        with precisions.products(self.precision):
            return self._bound(variables)(self._flat(image), eps, statistics)

    def calibrate(self, variables: Variables, image: Image, eps: Layers) -> Statistics:
        """Return statistics of many training images, so that results do not depend on a batch (Wu & Johnson 2021)."""
        return self(variables, image, eps).statistics

    def denoise(
        self, variables: Variables, statistics: Statistics, image: Image, eps: Layers
    ) -> Float[Array, "batch *data"]:
        """Return x̂ = ẑ_0 from noisy images and layers, in the units of x: [−1, 1] for integer images."""
        return self(variables, image, eps, statistics).denoised[0].reshape(image.shape)

    def log_prob(self, variables: Variables, statistics: Statistics, image: Image) -> Float[Array, "batch classes"]:
        """Return log p(c|x) for every class, from the clean path. Raises ValueError for a network without classes."""
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
    """A ladder network, optionally trained as a classifier on a share of the labels (Rasmus et al. 2015).

    `layers` are the widths of the layers above the image; if labels are used, a top layer with one unit per class is
    added. `noise` is the standard deviation of the noise at every layer. `costs` are the weights of the layers' costs,
    from the image up; None stands for 1 for the image and 0.1 for each layer above it. `labelled` is the share of the
    training images whose labels are used, by a cross-entropy with `weight`. Raises ValueError for sizes that are out of
    range or do not fit together.

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
