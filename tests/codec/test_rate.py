"""The net rate is L_T, of exact denoisers for which it is known.

The bits of one coding vary, as the draws do. What the normals' densities make of the same latents varies with them, and
its mean is L_T: for a linear denoiser it hangs on the draws' means and variances alone, which are those of the normals.
So the difference of the two is measured, whose standard error is small, beside the bits themselves.
"""

from typing import NamedTuple

import numpy as np
import pytest
from coded import PosteriorMean, bound, gammas, normal, points, predict, stack, values
from oracle import decoder_log_prob
from scipy.special import softmax

from vdm.codec.chain import Chain
from vdm.codec.normals import Normals

SCHEDULES = "linear", "cosine", "learned_monotone"


class Mean(NamedTuple):
    mean: float
    stderr: float

    @classmethod
    def of(cls, batches: list[float]) -> "Mean":
        return cls(float(np.mean(batches)), float(np.std(batches, ddof=1) / np.sqrt(len(batches))))


class Gap(NamedTuple):
    """Net bits/dim of a batch less L_T of its images, and less what the densities say of its latents."""

    bound: Mean
    densities: Mean


class Watched(Normals):
    """Sums up the bits of what is pushed, and takes off those of what is drawn, by the normal densities."""

    log: list[float] | None = None
    drawn: list[np.ndarray] | None = None

    def draw(self, stack, mean):
        value = super().draw(stack, mean)
        self.log.append(self._log2(value, mean))
        self.drawn.append(value)
        return value

    def push(self, stack, value, mean):
        self.log.append(-self._log2(value, mean))
        super().push(stack, value, mean)

    def _log2(self, value, mean):
        return -value.size * np.log2(self.std * np.sqrt(2 * np.pi)) - 0.5 * np.sum(
            ((value - mean) / self.std) ** 2
        ) / np.log(2)


def measured(of: PosteriorMean, points: np.ndarray, images: np.ndarray, levels: int, batches: int = 8) -> Gap:
    """Of images on a stack that is high enough."""
    size = len(images) // batches
    coder = Chain(predict(of), points, images.shape[1:], levels, size)
    for part in (coder._first, coder._prior, *(n for step in coder._steps for n in (step.forward, step.backward))):
        part.__class__ = Watched
    expected, bits = bound(of, points, levels), stack(1 << 17)
    of_bound, of_densities = [], []
    for first in range(0, size * batches, size):
        batch = images[first : first + size]
        Watched.log, Watched.drawn = [], []
        before = bits.num_valid_bits()
        coder.push(bits, batch, first)
        spent = bits.num_valid_bits() - before
        z_0 = Watched.drawn[0].reshape(batch.shape) * coder._widths[0]
        densities = sum(Watched.log) - decoder_log_prob(batch, z_0, points[-1], levels).sum() / np.log(2)
        of_bound.append((spent - expected[batch].sum()) / batch.size)
        of_densities.append((spent - densities) / batch.size)
    return Gap(Mean.of(of_bound), Mean.of(of_densities))


def normal_images(num: int, shape: tuple[int, ...], levels: int, mean: float, std: float) -> np.ndarray:
    x = np.random.default_rng(0).normal(mean, std, (num, *shape))
    return np.clip(np.floor((x + 1) * levels / 2), 0, levels - 1).astype(np.uint8)


def assert_at_the_bound(gap: Gap) -> None:
    """Within 0.005 bits/dim by far more than the standard error; the bits themselves to 4.5 of theirs."""
    assert abs(gap.densities.mean) + 3 * gap.densities.stderr < 0.005
    assert abs(gap.bound.mean) < 4.5 * gap.bound.stderr + 0.003


@pytest.mark.parametrize("num_steps", [40, 250])
def test_the_rate_is_the_bound(num_steps):
    images = normal_images(384, (4, 4, 1), 256, 0.1, 0.2)
    assert_at_the_bound(measured(normal(0.1, 0.2), gammas("linear", -13.3, 5.0, num_steps), images, 256))


@pytest.mark.parametrize(("schedule", "num_steps"), [("linear", 60), ("cosine", 120), ("learned_monotone", 120)])
def test_the_rate_is_the_bound_of_few_levels(schedule, num_steps):
    """Of 17 points, whose exact denoiser is not linear; the reconstruction term counts here.

    From γ = −5 on, a step's error is within a few σ: further out a single escape is 32 bits, by chance.
    """
    probabilities = softmax(-((values(17) - 0.2) ** 2) / 0.08)
    images = np.random.default_rng(1).choice(17, (384, 4, 4, 1), p=probabilities).astype(np.uint8)
    assert_at_the_bound(measured(points(probabilities), gammas(schedule, -5.0, 5.0, num_steps), images, 17))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_few_or_uneven_steps_cost_no_more_than_the_bound(schedule):
    """Less, where a normal's tail would cost more than the 24 bits, and 32, that the coder takes at most."""
    images = normal_images(384, (4, 4, 1), 256, 0.1, 0.2)
    for num_steps in (1, 3, 30):
        gap = measured(normal(0.1, 0.2), gammas(schedule, -13.3, 5.0, num_steps), images, 256)
        assert gap.bound.mean < 4.5 * gap.bound.stderr
        assert gap.densities.mean < 0.005
        assert num_steps > 3 or gap.bound.mean < -10 * gap.bound.stderr


def test_with_the_exact_denoiser_the_rate_approaches_the_entropy():
    """Of integers with known probabilities: L_T is above it by about 1/T, and so is the rate."""
    probabilities = softmax(-((values(17) + 0.1) ** 2) / 0.1)
    bits = -np.log2(probabilities)
    above = [bound(points(probabilities), gammas("linear", -9.0, 9.0, t), 17) @ probabilities - bits @ probabilities
             for t in (30, 90, 270)]  # fmt: skip
    assert above[0] / above[1] == pytest.approx(3, rel=0.2)
    assert above[1] / above[2] == pytest.approx(3, rel=0.1)
    assert 0 < above[2] < 0.2

    images = np.random.default_rng(2).choice(17, (256, 4, 4, 1), p=probabilities).astype(np.uint8)
    measured_above = []
    for num_steps in (4, 16, 64):
        line = gammas("linear", -7.0, 5.0, num_steps)
        gap = measured(points(probabilities), line, images, 17, batches=2)
        measured_above.append(gap.bound.mean + (bound(points(probabilities), line, 17) - bits)[images].mean())
    assert measured_above[0] > 2 * measured_above[1] > 5 * measured_above[2] > 0
