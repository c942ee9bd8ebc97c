"""Coding of normal distributions on a grid of width 1, by asymmetric numeral systems (constriction; Duda 2013).

A normal variable is coded as the integer nearest to a draw from it. With the variance σ² − 1/12 in place of σ²
(Sheppard's correction), the integers have exactly the mean and, up to exp(−2π²σ²), the variance of the normal. At
σ = 1, the entropy of N(0, σ²) in units of the grid is matched to 2·10⁻⁶ nats, and the divergence ½Δ² of two normals
whose means differ by Δ σ to 3.5·10⁻⁴ Δ⁴ nats, an error that falls as σ⁻⁴. So the grid can be nearly as wide as one σ,
and few bits are borrowed. The coder's probabilities are multiples of 2⁻²⁴: every integer within `REACH` σ has at least
one such part, and the integers beyond share one more at each end, plus 32 bits for their distance.
"""

import math
from typing import TypeAlias

import constriction
import numpy as np
from jaxtyping import Float, Int

Stack: TypeAlias = constriction.stream.stack.AnsCoder
"""A last-in, first-out stack: `encode_reverse` pushes integers, and `decode` pops, or equivalently draws, them."""

REACH = 8.0
"""Number of σ within which draws lie, and beyond which a coded integer costs extra bits."""

MEAN_STEPS = 256
"""Means are rounded to 1/256 of the grid's width, so that rounding errors in them rarely reach the coder."""

BINS = 1.5
"""Grid widths per σ, for the smaller of the two σ that a latent is coded with."""

FAR = 1 << 32
"""Largest distance beyond the reach at which an integer can still be coded."""

_half = constriction.stream.model.Uniform(1 << 16)


class Normals:
    """Independent normals that share one σ, in units of the grid; all arrays are one-dimensional.

    >>> stack = Stack(np.arange(1, 1000, dtype=np.uint32))
    >>> before = stack.num_bits()
    >>> draws = Normals(1.5).pop(stack, np.zeros(100))
    >>> Normals(1.5).push(stack, draws, np.zeros(100))
    >>> stack.num_bits() == before
    True
    """

    def __init__(self, std: float):
        """Raise ValueError unless √(1/12) < std ≤ 2¹⁶; with larger σ, one part per integer would be too coarse."""
        if not 1 / 12 < std**2 <= 2.0**32:
            raise ValueError(f"std={std}: must be above 0.2887 and at most 65536, in units of the grid")
        self.std = std
        self._std = math.sqrt(std**2 - 1 / 12)
        self._reach = math.ceil(REACH * std)
        self._within = constriction.stream.model.QuantizedGaussian(-self._reach, self._reach)
        # The two outermost integers stand for everything beyond the reach.
        self._all = constriction.stream.model.QuantizedGaussian(-self._reach - 1, self._reach + 1)

    def draw(self, stack: Stack, mean: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Draw integers within the reach, using bits taken off the stack. `give_back` undoes it."""
        center, offset = _center(mean)
        return center + stack.decode(self._within, offset, self._stds(mean))

    def give_back(self, stack: Stack, value: Int[np.ndarray, " n"], mean: Float[np.ndarray, " n"]) -> None:
        """Put the bits that `draw` took back onto the stack. Raises ValueError for values that it cannot draw."""
        center, offset = _center(mean)
        distance = value - center
        if (far := np.abs(distance).max(initial=0)) > self._reach:
            raise ValueError(f"value is {far} from its mean: must be within {self._reach}")
        stack.encode_reverse(distance.astype(np.int32), self._within, offset, self._stds(mean))

    def push(self, stack: Stack, value: Int[np.ndarray, " n"], mean: Float[np.ndarray, " n"]) -> None:
        """Push integers onto the stack, at −log₂ p bits each.

        Raises ValueError for an integer more than `FAR` beyond the reach.
        """
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
        """Pop the integers that `push` put on the stack."""
        center, offset = _center(mean)
        distance = stack.decode(self._all, offset, self._stds(mean))
        if np.abs(distance).max(initial=0) > self._reach:
            beyond = np.abs(distance) > self._reach
            distance = distance.astype(np.int64)
            distance[beyond] += np.sign(distance[beyond]) * _pop_distances(stack, int(beyond.sum()))
        return center + distance

    def bits(self, num: int) -> int:
        """Bits that `num` draws take off the stack on average, plus about 4 standard deviations (1.02 √num bits)."""
        return math.ceil(num * entropy_bits(self.std) + 4 * math.sqrt(num))

    def _stds(self, like: np.ndarray) -> np.ndarray:
        return np.full(like.shape, self._std)


def entropy_bits(std: float) -> float:
    """Return the entropy log₂ (σ √(2πe)) in bits of a normal with this σ, in units of the grid.

    >>> round(entropy_bits(1.0), 3)
    2.047
    """
    return math.log2(std * math.sqrt(2 * math.pi * math.e))


def mix(stack: Stack, bits: int, key: tuple[int, int]) -> None:
    """XOR the top `bits` bits of the stack with a pseudo-random pattern; a second call with the same key undoes it.

    What is drawn next must not depend on what was pushed last. A z_s that is unlikely under p(z_s|z_t) leaves bits that
    are not random; without mixing, the next latent would be drawn just as far off in the same direction, and so on. If
    the stack has fewer bits, new ones are created and add to the file's size, so `bits` is no more than the next draw
    needs.
    """
    num = -(-bits // 16)
    pattern = np.random.Philox(key=np.array(key, np.uint64)).random_raw(num // 4 + 1).astype("<u8").view("<u2")[:num]
    stack.encode_reverse((stack.decode(_half, num) ^ pattern.astype(np.int32)), _half)


def _center(mean: Float[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The integer nearest to each mean, and the mean's offset from it, rounded to a multiple of 1/`MEAN_STEPS`.

    Raises ValueError if a mean is not finite or exceeds 2⁵³ steps.
    """
    if not np.abs(mean).max(initial=0) < 2.0**53 / MEAN_STEPS:
        raise ValueError("mean is not finite, or too large for the grid")
    rounded = np.rint(mean * MEAN_STEPS)
    rounded /= MEAN_STEPS
    center = np.floor(rounded + 0.5)
    rounded -= center  # exact, as both are whole numbers of steps
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
