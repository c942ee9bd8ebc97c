"""Bits-back coding of integer images with the T-step model, in as many bits as the bound (Kingma et al. 2021, §5.3).

An image is coded together with its latents z₀ … z_T, and the bits that selected the latents are recovered (Hinton & van
Camp 1993; Townsend et al. 2019). Latents are drawn from the bottom up, z₀ from q(z₀|x) and each z_t from q(z_t|z_s). As
soon as a latent is drawn, the variable below it is coded given the latent: x by p(x|z₀), then each z_s by p(z_s|z_t),
and finally z_T by N(0, 1). This is the order of Bit-Swap (Kingma et al. 2019), which a Markov q allows. It never holds
more than two latents at once, whereas the order from the top, by q(z_s|z_t, x), must draw them all before it codes
anything. Both orders code the same joint distribution, so the net rate is the same: E_q[log q(z|x) − log p(x, z)], the
bound of the T-step model.
"""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import constriction
import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from scipy.special import expit

from vdm import likelihoods, predictions
from vdm.codec.normals import BINS, Normals, Stack, entropy_bits, mix

Predict = Callable[[np.ndarray, Any, np.ndarray | None], Array]
"""A compiled function (z, γ, labels) -> x̂ of float32 (batch, *data), float32 (), and int32 (batch,) or None."""

GAMMA_STEPS = 1 << 16
"""γ is rounded to multiples of 1/65536, so that platforms agree on it although a schedule's last bits may differ.

Those bits matter only where γ is almost halfway between two multiples. That is rare for few steps but possible for
T = 1000: decoding then fails, and the checksum shows it. Differences in x̂ itself are not affected by this rounding.
"""

_categorical = constriction.stream.model.Categorical(perfect=False)


def compiled(denoise: Callable[..., Any], labels: bool = False) -> Predict:
    """Compile a denoiser into one function that returns x̂.

    With `labels`, `denoise` is a function that makes a denoiser of labels (batch,). The compiled function raises
    ValueError for a guided or clipped denoiser.
    """

    @jax.jit
    def predict(z: Array, gamma: Array, given: Array | None) -> Array:
        own = denoise(given) if labels else denoise
        if isinstance(own, predictions.Guided):
            raise ValueError("denoise: is guided or clipped, so it codes worse; must be the model's own denoiser")
        return predictions.both(own)(z, gamma).x

    return predict


def timed(predict: Predict, seconds: list[float]) -> Predict:
    """Return `predict` wrapped so that it waits for its result and appends the seconds of each call to a list."""

    def and_timed(z: np.ndarray, gamma: Any, labels: np.ndarray | None) -> Array:
        start = time.perf_counter()
        x_hat = jax.block_until_ready(predict(z, gamma, labels))
        seconds.append(time.perf_counter() - start)
        return x_hat

    return and_timed


@dataclass(frozen=True)
class Step:
    """Coefficients of the step between s and t, in float64; z_s and z_t are integers in units of their grids."""

    gamma_t: float
    width_t: float
    up: float
    """Factor of z_s in the mean of q(z_t|z_s)."""
    forward: Normals
    """q(z_t|z_s) with mean up · z_s, in units of the grid of t."""
    of_z: float
    """Factor of z_t in the mean of p(z_s|z_t)."""
    of_x: float
    """Factor of x̂ in the mean of p(z_s|z_t)."""
    backward: Normals
    """p(z_s|z_t) with mean of_z · z_t + of_x · x̂, in units of the grid of s."""


class Chain:
    """The T-step model of a network as a coder for batches of images."""

    def __init__(
        self,
        predict: Predict,
        gammas: Float[np.ndarray, " points"],
        shape: tuple[int, ...],
        levels: int,
        batch_size: int,
        bins: float = BINS,
    ):
        """Prepare the steps of a grid of T + 1 noise levels, from γ(1) down to γ(0), as from `samplers.grid`.

        `bins` is the number of grid widths per σ, for the smaller of the two σ that a latent is coded with: see
        `normals`. Raises ValueError for values that cannot be coded with.
        """
        gammas = np.rint(np.asarray(gammas, np.float64)[::-1] * GAMMA_STEPS) / GAMMA_STEPS
        if gammas.ndim != 1 or len(gammas) < 2 or not (np.diff(gammas) > 0).all():
            raise ValueError("gammas: must be 2 or more falling numbers, at least 2**-16 apart")
        if not 0.5 <= bins <= 256:
            raise ValueError(f"bins={bins}: must be from 0.5 to 256")
        self.predict, self.shape, self.levels, self.batch_size = predict, shape, levels, batch_size
        self._num_dims = math.prod(shape)
        alpha, var = np.sqrt(expit(-gammas)), expit(gammas)
        c = -np.expm1(-np.diff(gammas))
        std_forward = np.sqrt(np.append(var[0], var[1:] * c))  # of q(z₀|x), q(z_t|z_s)
        std_backward = np.sqrt(np.append(var[:-1] * c, 1.0))  # of p(z_s|z_t), p(z_T)
        width = np.minimum(std_forward, std_backward) / bins
        self._alpha_0, self._gamma_0 = alpha[0], np.float32(gammas[0])
        self._widths = width
        self._first, self._prior = Normals(std_forward[0] / width[0]), Normals(std_backward[-1] / width[-1])
        self._steps = [
            Step(
                gamma_t=gammas[i],
                width_t=width[i],
                up=alpha[i] / alpha[i - 1] * width[i - 1] / width[i],
                forward=Normals(std_forward[i] / width[i]),
                of_z=alpha[i] / alpha[i - 1] * var[i - 1] / var[i] * width[i] / width[i - 1],
                of_x=alpha[i - 1] * c[i - 1] / width[i - 1],
                backward=Normals(std_backward[i - 1] / width[i - 1]),
            )
            for i in range(1, len(gammas))
        ]
        # z_t is drawn before z_s is coded; by then the bits of all earlier latents have been given back.
        drawn = np.cumsum([entropy_bits(std / w) for std, w in zip(std_forward, width, strict=True)])
        given = np.cumsum([0, 0, *(entropy_bits(std / w) for std, w in zip(std_backward, width, strict=True))])
        self.bits_borrowed = float((drawn - given[: len(drawn)]).max())
        """Average number of initial bits per dimension of an image: see `bits_to_start`."""

    @property
    def num_steps(self) -> int:
        """T, the number of network calls per batch."""
        return len(self._steps)

    def bits_to_start(self, num: int) -> float:
        """Bits that the stack should hold before `num` images are pushed; missing bits are added to the file's size."""
        dims = num * self._num_dims
        return self.bits_borrowed * dims + 6 * math.sqrt(dims)

    def push(
        self, stack: Stack, images: UInt8[np.ndarray, "num *data"], number: int, labels: np.ndarray | None = None
    ) -> None:
        """Push up to `batch_size` images onto the stack; `number` is the index of the first, used only to seed `mix`.

        Raises ValueError if the network's output is not finite.
        """
        num = len(images)
        z_s = self._drawn(stack, self._first, self._up_first(images), (number, 0))
        stack.encode_reverse(images.reshape(-1).astype(np.int32), _categorical, self._probabilities(z_s, num))
        for i, step in enumerate(self._steps, start=1):
            z_t = self._drawn(stack, step.forward, step.up * z_s, (number, i))
            step.backward.push(stack, z_s, self._down(step, z_t, num, labels))
            z_s = z_t
        self._prior.push(stack, z_s, np.zeros(z_s.shape))

    def pop(
        self, stack: Stack, num: int, number: int, labels: np.ndarray | None = None
    ) -> UInt8[np.ndarray, "num *data"]:
        """Pop exactly the `num` images that `push` put on the stack, provided that the network's outputs are the same.

        Raises ValueError if they cannot have been the same.
        """
        z_t = self._prior.pop(stack, np.zeros(num * self._num_dims))
        for i, step in reversed(list(enumerate(self._steps, start=1))):
            z_s = step.backward.pop(stack, self._down(step, z_t, num, labels))
            self._returned(stack, step.forward, z_t, step.up * z_s, (number, i))
            z_t = z_s
        flat = stack.decode(_categorical, self._probabilities(z_t, num))
        images = flat.astype(np.uint8).reshape(num, *self.shape)
        self._returned(stack, self._first, z_t, self._up_first(images), (number, 0))
        return images

    def _drawn(self, stack: Stack, q: Normals, mean: np.ndarray, key: tuple[int, int]) -> np.ndarray:
        mix(stack, q.bits(mean.size), key)
        return q.draw(stack, mean)

    def _returned(self, stack: Stack, q: Normals, value: np.ndarray, mean: np.ndarray, key: tuple[int, int]) -> None:
        q.give_back(stack, value, mean)
        mix(stack, q.bits(mean.size), key)

    def _up_first(self, images: UInt8[np.ndarray, "num *data"]) -> Float[np.ndarray, " n"]:
        """The mean of q(z₀|x), in units of its grid."""
        x = 2.0 * images.reshape(-1) / self.levels + (1 / self.levels - 1)
        return self._alpha_0 * x / self._widths[0]

    def _down(
        self, step: Step, z_t: Int[np.ndarray, " n"], num: int, labels: np.ndarray | None
    ) -> Float[np.ndarray, " n"]:
        """The mean of p(z_s|z_t), in units of the grid of s."""
        given = None if labels is None else self._padded(labels.astype(np.int32))
        batch = self._padded((z_t * step.width_t).reshape(num, *self.shape).astype(np.float32))
        x_hat = self.predict(batch, np.asarray(step.gamma_t, np.float32), given)
        mean = np.asarray(x_hat, np.float64)[:num].reshape(-1) * step.of_x
        mean += step.of_z * z_t
        return mean

    def _probabilities(self, z_0: Int[np.ndarray, " n"], num: int) -> Float[np.ndarray, "n levels"]:
        """The probabilities p(x|z₀) of every value of x."""
        z = self._padded((z_0 * self._widths[0]).reshape(num, *self.shape).astype(np.float32))
        p = np.asarray(_value_probabilities(z, self._gamma_0, self.levels))[:num]
        if not np.isfinite(p).all():
            raise ValueError("z₀ is out of range")
        return p.reshape(-1, self.levels)

    def _padded(self, batch: np.ndarray) -> np.ndarray:
        """Pad to the one batch shape, so that only one program is compiled."""
        if len(batch) == self.batch_size:
            return batch
        return np.concatenate([batch, np.zeros((self.batch_size - len(batch), *batch.shape[1:]), batch.dtype)])


@functools.partial(jax.jit, static_argnames="levels")
def _value_probabilities(z_0: Array, gamma_0: Array, levels: int) -> Array:
    return jax.nn.softmax(likelihoods.logits(z_0, gamma_0, levels), axis=-1)
