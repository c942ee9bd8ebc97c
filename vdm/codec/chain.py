"""Bits-back coding of integer images with the T-step model: as many bits as the bound says (Kingma et al. 2021, §5.3).

An image is coded with its latents z₀ … z_T, and the bits that chose these are given back (Hinton & van Camp 1993;
Townsend et al. 2019). They are chosen from the bottom up, z₀ by q(z₀|x), each z_t by q(z_t|z_s), and as soon as z_t is
there, what it explains is coded: x by p(x|z₀), then each z_s by p(z_s|z_t), at last z_T by N(0, 1). That is the order
of Bit-Swap (Kingma et al. 2019), which a Markov q allows: never more than two latents are held at once, where the order
from the top, by q(z_s|z_t, x), must hold them all before it gives the first bit back. Both orders code the same joint
distribution, so the net rate is the same: E_q[log q(z|x) − log p(x, z)], the bound of the T-step model.
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
"""(z, γ, labels) -> x̂, compiled: float32 (batch, *data), float32 (), int32 (batch,) or None."""

GAMMA_STEPS = 1 << 16
"""γ is rounded to multiples of 1/65536: the last bits of a schedule's arithmetic then move a γ only where it is within
them of the middle of two multiples. So they rarely matter for few steps, and may for T = 1000: nothing decodes then,
and the checksum says so. What x̂ differs by it does not touch."""

_categorical = constriction.stream.model.Categorical(perfect=False)


def compiled(denoise: Callable[..., Any], labels: bool = False) -> Predict:
    """A denoiser, or with `labels` what makes one of labels (batch,), as one compiled function to x̂.

    It raises ValueError for a guided or clipped denoiser.
    """

    @jax.jit
    def predict(z: Array, gamma: Array, given: Array | None) -> Array:
        own = denoise(given) if labels else denoise
        if isinstance(own, predictions.Guided):
            raise ValueError("denoise: is guided or clipped, so it codes worse; must be a model's own, as it is")
        return predictions.both(own)(z, gamma).x

    return predict


def timed(predict: Predict, seconds: list[float]) -> Predict:
    """`predict`, which waits for its answer and adds the seconds that each call took to a list."""

    def and_timed(z: np.ndarray, gamma: Any, labels: np.ndarray | None) -> Array:
        start = time.perf_counter()
        x_hat = jax.block_until_ready(predict(z, gamma, labels))
        seconds.append(time.perf_counter() - start)
        return x_hat

    return and_timed


@dataclass(frozen=True)
class Step:
    """From s to t, in float64: z_t and z_s are integers times their grids' widths."""

    gamma_t: float
    width_t: float
    up: float
    forward: Normals
    """q(z_t|z_s), around up · z_s, of z_s in widths of s's grid, in widths of t's."""
    of_z: float
    of_x: float
    backward: Normals
    """p(z_s|z_t), around of_z · z_t + of_x · x̂, of z_t in widths of t's grid, in widths of s's."""


class Chain:
    """The T-step model of a network, as a coder of batches of images."""

    def __init__(
        self,
        predict: Predict,
        gammas: Float[np.ndarray, " points"],
        shape: tuple[int, ...],
        levels: int,
        batch_size: int,
        bins: float = BINS,
    ):
        """`gammas` from γ(1) down to γ(0), as of `samplers.grid`; `bins` are the grid's widths in the smaller of the
        two σ that a latent is coded with: see `normals`. Raises ValueError for others than can be coded.
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
        std_forward = np.sqrt(np.append(var[0], var[1:] * c))  # of z₀|x, z_t|z_s
        std_backward = np.sqrt(np.append(var[:-1] * c, 1.0))  # of z_s|z_t, z_T
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
        # z_t is drawn before z_s is coded: of those before, all but the last have been given back.
        drawn = np.cumsum([entropy_bits(std / w) for std, w in zip(std_forward, width, strict=True)])
        given = np.cumsum([0, 0, *(entropy_bits(std / w) for std, w in zip(std_backward, width, strict=True))])
        self.bits_borrowed = float((drawn - given[: len(drawn)]).max())
        """Initial bits for each dimension of an image, on average: see `bits_to_start`."""

    @property
    def num_steps(self) -> int:
        """T: network calls a batch."""
        return len(self._steps)

    def bits_to_start(self, num: int) -> float:
        """The bits that the stack should have before `num` images are pushed: where it has fewer, new ones are paid."""
        dims = num * self._num_dims
        return self.bits_borrowed * dims + 6 * math.sqrt(dims)

    def push(
        self, stack: Stack, images: UInt8[np.ndarray, "num *data"], number: int, labels: np.ndarray | None = None
    ) -> None:
        """Puts up to `batch_size` images on the stack; `number` says which of all they are, and only `mix` is told.

        Raises ValueError where the network's answer is not finite.
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
        """The `num` images that `push` put there, exactly, if the network answers as it did then.

        Raises ValueError where it cannot have been so.
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
        """The mean of q(z₀|x), in widths of its grid."""
        x = 2.0 * images.reshape(-1) / self.levels + (1 / self.levels - 1)
        return self._alpha_0 * x / self._widths[0]

    def _down(
        self, step: Step, z_t: Int[np.ndarray, " n"], num: int, labels: np.ndarray | None
    ) -> Float[np.ndarray, " n"]:
        """The mean of p(z_s|z_t), in widths of s's grid."""
        given = None if labels is None else self._padded(labels.astype(np.int32))
        batch = self._padded((z_t * step.width_t).reshape(num, *self.shape).astype(np.float32))
        x_hat = self.predict(batch, np.asarray(step.gamma_t, np.float32), given)
        mean = np.asarray(x_hat, np.float64)[:num].reshape(-1) * step.of_x
        mean += step.of_z * z_t
        return mean

    def _probabilities(self, z_0: Int[np.ndarray, " n"], num: int) -> Float[np.ndarray, "n levels"]:
        """p(x|z₀) of every value of x."""
        z = self._padded((z_0 * self._widths[0]).reshape(num, *self.shape).astype(np.float32))
        p = np.asarray(_value_probabilities(z, self._gamma_0, self.levels))[:num]
        if not np.isfinite(p).all():
            raise ValueError("z₀ is out of range")
        return p.reshape(-1, self.levels)

    def _padded(self, batch: np.ndarray) -> np.ndarray:
        """One batch shape, so that there is one program."""
        if len(batch) == self.batch_size:
            return batch
        return np.concatenate([batch, np.zeros((self.batch_size - len(batch), *batch.shape[1:]), batch.dtype)])


@functools.partial(jax.jit, static_argnames="levels")
def _value_probabilities(z_0: Array, gamma_0: Array, levels: int) -> Array:
    return jax.nn.softmax(likelihoods.logits(z_0, gamma_0, levels), axis=-1)
