"""Normal distributions on a grid of width 1, as an asymmetric numeral system codes them (constriction; Duda 2013).

A normal is coded as the integer nearest to a draw of it. With the variance σ² − 1/12 in place of σ² (Sheppard's
correction), the integers have exactly the mean and, but for exp(−2π²σ²), the variance of the normal itself: at σ = 1
the entropy of N(0, σ²) in units of the grid is met to 2·10⁻⁶ nats, and the divergence ½Δ² of two that are Δ σ apart to
3.5·10⁻⁴ Δ⁴ nats, which falls as σ⁻⁴. So the grid may be nearly as wide as one σ, and few bits are borrowed. The coder
counts in 2⁻²⁴: every integer within `REACH` σ has at least one part, and what lies beyond costs one more, and 32 bits
that say how far.
"""

import math
from typing import TypeAlias

import constriction
import numpy as np
from jaxtyping import Float, Int

Stack: TypeAlias = constriction.stream.stack.AnsCoder
"""Last in, first out: `encode_reverse` puts integers on it, `decode` takes them off, or draws them: it is the same."""

REACH = 8.0
"""Beyond so many σ a draw is not made, and a symbol costs extra."""

MEAN_STEPS = 256
"""Means are rounded to 1/256 of the grid's width, so that rounding errors in them rarely reach the coder."""

BINS = 1.5
"""Widths of the grid in the smaller of the two σ that a latent is coded with."""

FAR = 1 << 32
"""How far beyond the reach an integer may be, less 1."""

_half = constriction.stream.model.Uniform(1 << 16)


class Normals:
    """Independent normals with one σ, in units of the grid; arrays are one-dimensional.

    >>> stack = Stack(np.arange(1, 1000, dtype=np.uint32))
    >>> before = stack.num_bits()
    >>> draws = Normals(1.5).pop(stack, np.zeros(100))
    >>> Normals(1.5).push(stack, draws, np.zeros(100))
    >>> stack.num_bits() == before
    True
    """

    def __init__(self, std: float):
        """Raises ValueError unless √(1/12) < std ≤ 2¹⁶: beyond, one part an integer is no longer little."""
        if not 1 / 12 < std**2 <= 2.0**32:
            raise ValueError(f"std={std}: must be above 0.2887 and at most 65536, in units of the grid")
        self.std = std
        self._std = math.sqrt(std**2 - 1 / 12)
        self._reach = math.ceil(REACH * std)
        self._within = constriction.stream.model.QuantizedGaussian(-self._reach, self._reach)
        # The outermost two stand for all that is beyond.
        self._all = constriction.stream.model.QuantizedGaussian(-self._reach - 1, self._reach + 1)

    def draw(self, stack: Stack, mean: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Takes bits off the stack that say which integers of q it is: none beyond the reach. `give_back` undoes it."""
        center, offset = _center(mean)
        return center + stack.decode(self._within, offset, self._stds(mean))

    def give_back(self, stack: Stack, value: Int[np.ndarray, " n"], mean: Float[np.ndarray, " n"]) -> None:
        """The bits that `draw` took. Raises ValueError for values that it does not draw."""
        center, offset = _center(mean)
        distance = value - center
        if (far := np.abs(distance).max(initial=0)) > self._reach:
            raise ValueError(f"value is {far} from its mean: must be within {self._reach}")
        stack.encode_reverse(distance.astype(np.int32), self._within, offset, self._stds(mean))

    def push(self, stack: Stack, value: Int[np.ndarray, " n"], mean: Float[np.ndarray, " n"]) -> None:
        """Puts any integers on the stack, for −log₂ p bits each."""
        center, offset = _center(mean)
        distance = value - center
        end = self._reach + 1
        if (far := np.abs(distance).max(initial=0)) >= end:
            if far - end >= FAR:
                raise ValueError(f"value is {far} from its mean: must be within 2**32")
            beyond = np.abs(distance) - end
            _push_distances(stack, beyond[beyond >= 0])
            distance = np.clip(distance, -end, end)
        stack.encode_reverse(distance.astype(np.int32), self._all, offset, self._stds(mean))

    def pop(self, stack: Stack, mean: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """What `push` put there."""
        center, offset = _center(mean)
        distance = stack.decode(self._all, offset, self._stds(mean))
        if np.abs(distance).max(initial=0) > self._reach:
            beyond = np.abs(distance) > self._reach
            distance = distance.astype(np.int64)
            distance[beyond] += np.sign(distance[beyond]) * _pop_distances(stack, int(beyond.sum()))
        return center + distance

    def bits(self, num: int) -> int:
        """What `num` draws take off the stack, and 4 of its standard deviations, of 1.02 √num, more."""
        return math.ceil(num * entropy_bits(self.std) + 4 * math.sqrt(num))

    def _stds(self, like: np.ndarray) -> np.ndarray:
        return np.full(like.shape, self._std)


def entropy_bits(std: float) -> float:
    """Bits of a normal with this σ, in units of the grid: log₂ (σ √(2πe))."""
    return math.log2(std * math.sqrt(2 * math.pi * math.e))


def mix(stack: Stack, bits: int, key: tuple[int, int]) -> None:
    """Flips half of so many bits on top of the stack by a pseudo-random pattern; twice is not at all.

    What is drawn next must not depend on what was put there last. A z_s that p(z_s|z_t) did not expect leaves bits
    that are not random, and without this z_t+1 would be drawn as far off, in the same direction, on and on. Where the
    stack has fewer, these are new bits, that must be paid: so `bits` is no more than what is drawn next.
    """
    num = -(-bits // 16)
    pattern = np.random.Philox(key=np.array(key, np.uint64)).random_raw(num // 4 + 1).astype("<u8").view("<u2")[:num]
    stack.encode_reverse((stack.decode(_half, num) ^ pattern.astype(np.int32)), _half)


def _center(mean: Float[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The integer nearest to each mean, and where from it the mean is, a multiple of 1/`MEAN_STEPS`.

    Raises ValueError where a mean is not finite or beyond 2⁵³ steps.
    """
    if not np.abs(mean).max(initial=0) < 2.0**53 / MEAN_STEPS:
        raise ValueError("mean is not finite, or too large for the grid")
    rounded = np.rint(mean * MEAN_STEPS)
    rounded /= MEAN_STEPS
    center = np.floor(rounded + 0.5)
    rounded -= center  # all of it exact: in steps
    return center.astype(np.int64), rounded


def _push_distances(stack: Stack, beyond: Int[np.ndarray, " n"]) -> None:
    if beyond.size:
        stack.encode_reverse((beyond & 0xFFFF).astype(np.int32), _half)
        stack.encode_reverse((beyond >> 16).astype(np.int32), _half)


def _pop_distances(stack: Stack, num: int) -> Int[np.ndarray, " n"]:
    if not num:
        return np.zeros(0, np.int64)
    high, low = (stack.decode(_half, num).astype(np.int64) for _ in range(2))
    return (high << 16) | low
