"""The bound to a stated precision with the fewest network calls: a pilot, a plan made from it, and its evaluation.

The error in question is that of the draws alone, for the images at hand (`Evaluation.noise_stderr`). Times are
stratified within each image; where the pilot shows that it pays, they are importance-sampled too; and control variates
take out part of the noise. The plan is fixed before the first draw that counts, and the pilot's draws do not count, so
the estimate is unbiased.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from vdm import bounds
from vdm.data.dataset import Source
from vdm.evaluation.bound import TIME_BINS, Evaluation, Evaluator, Progress, to_evaluation
from vdm.model import Variables

PILOT_IMAGES = 32
"""Test images of the pilot, each with two draws in every bin of times."""

MARGIN = 1.1
"""The plan aims at the stated standard error divided by this, as the pilot's variances are estimates."""

MAX_DRAWS = 20_000

Curves = Float[np.ndarray, "images bins"]


class TooManyDrawsError(ValueError):
    """A target that no plan reaches within `MAX_DRAWS` draws an image."""


class Pilot(NamedTuple):
    """Two independent draws of every image at one time in every bin, the same for both: bits/dim."""

    first: Curves
    """The diffusion losses of the first draws, less their control variates."""
    second: Curves
    """Of the second draws."""
    controls: Float[np.ndarray, "bins 2"]
    """The factors of the control variates."""
    one_draw_variance: float
    """Variance of one draw of an image's bound at a uniform time, control variates and all: a mean over images."""
    reconstruction_variance: float
    """Variance over its noise of one draw of the reconstruction term, a mean over images."""

    @property
    def noise(self) -> Float[np.ndarray, " bins"]:
        """Variance over ε of one draw of the diffusion loss at each time, a mean over images, smoothed over bins."""
        variance = np.mean(np.square(self.first - self.second), axis=0) / 2
        padded = np.pad(variance, 1, mode="edge")
        return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4

    def variance(self, probabilities: Float[np.ndarray, " bins"], num_draws: int) -> float:
        """Variance of the mean of an image's draws, stratified over this density: a mean over images."""
        density = probabilities * TIME_BINS
        noise = float(np.mean(self.noise / density)) + self.reconstruction_variance
        return noise / num_draws + self._variance_of_offset(probabilities, num_draws)

    def _variance_of_offset(self, probabilities: Float[np.ndarray, " bins"], num_draws: int) -> float:
        """What the common offset of an image's stratified times adds: the two draws' covariance over that offset."""
        offsets = (np.arange(64) + 0.5) / 64
        u = (np.arange(num_draws)[:, None] + offsets) / num_draws
        bins = np.minimum(np.searchsorted(np.cumsum(probabilities), u, side="right"), TIME_BINS - 1)
        weight = 1 / (probabilities * TIME_BINS)
        means = [np.mean((curves * weight)[:, bins], axis=1) for curves in (self.first, self.second)]
        centred = [m - m.mean(axis=1, keepdims=True) for m in means]
        return max(float(np.mean(centred[0] * centred[1])), 0.0)


@dataclass(frozen=True)
class Plan:
    """How an evaluation is done, and what it is expected to need."""

    probabilities: Float[np.ndarray, " bins"] | None
    """Of the bins of times; None: uniform times."""
    controls: Float[np.ndarray, "bins 2"]
    """Factors of the control variates."""
    num_draws: int
    """Draws an image in each of the two rounds."""
    iid_calls: float
    """Calls an image that independent uniform times would need for the same standard error."""
    pilot_calls: float
    """Calls the pilot took, by image evaluated."""

    @property
    def calls(self) -> int:
        """Network calls an image, without the pilot's."""
        return ROUNDS * self.num_draws

    @property
    def times(self) -> str:
        """How times are drawn."""
        return "stratified" if self.probabilities is None else "stratified, importance-sampled"

    def to_dict(self) -> dict[str, Any]:
        """For evaluation.json."""
        return {
            "times": self.times,
            "calls_per_image": self.calls,
            "pilot_calls_per_image": self.pilot_calls,
            "iid_calls_per_image": self.iid_calls,
        }


ROUNDS = 2
"""Independent halves of an evaluation, whose difference gives its standard error."""


def evaluate_to(
    evaluator: Evaluator,
    variables: Variables,
    source: Source,
    key: PRNGKeyArray,
    target: float,
    num_steps: int | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[Evaluation, Plan]:
    """The bound on the images of `source` with a `noise_stderr` of about `target` bits/dim, and its plan."""
    pilot_key, key = jax.random.split(key)
    pilot = run_pilot(evaluator, variables, source, pilot_key, num_steps)
    plan = make_plan(pilot, len(source), target, num_steps)
    estimates = evaluator.estimates(
        variables,
        source,
        key,
        plan.num_draws,
        rounds=ROUNDS,
        progress=progress,
        num_steps=num_steps,
        probabilities=plan.probabilities,
        controls=plan.controls,
    )
    return to_evaluation(estimates, evaluator.model.num_dims), plan


def run_pilot(
    evaluator: Evaluator, variables: Variables, source: Source, key: PRNGKeyArray, num_steps: int | None
) -> Pilot:
    """Draws of the first `PILOT_IMAGES` images, one in every bin of times, twice; each image has its own offset."""
    num = min(PILOT_IMAGES, len(source))
    offsets = np.random.default_rng(np.asarray(jax.random.key_data(key))).random(num)
    # Not filled up to the batch of the evaluation proper: that would be many times the work.
    estimates = evaluator.resized(num).estimates(
        variables,
        source,
        key,
        TIME_BINS,
        rounds=2,
        max_images=num,
        num_steps=num_steps,
        # The padding's index, −1, gets the last one.
        offsets=lambda r, index: offsets[index],
    )
    num_dims = evaluator.model.num_dims
    in_bits = bounds.bits_per_dim(estimates.by_time.astype(np.float64), num_dims)
    losses, variates = in_bits[..., 1], in_bits[..., 3:]
    reconstruction = bounds.bits_per_dim(estimates.terms[:, 0], num_dims)
    # Means of TIME_BINS draws each.
    variance = float(TIME_BINS * np.mean(np.square(reconstruction[0] - reconstruction[1])) / 2)
    # The two draws are independent, so their product is free of the noise that a square of means would have.
    squared_mean = np.mean(losses[0].mean(axis=1) * losses[1].mean(axis=1))
    factors = _regress(losses[0] - losses[1], variates[0] - variates[1])
    first, second = losses - np.sum(factors * variates, axis=-1)
    return Pilot(
        first,
        second,
        controls=factors,
        one_draw_variance=float(np.mean(np.square(losses)) - squared_mean) + variance,
        reconstruction_variance=variance,
    )


def _regress(
    losses: Float[np.ndarray, "images bins"], variates: Float[np.ndarray, "images bins 2"]
) -> Float[np.ndarray, "bins 2"]:
    """Least-squares factors of the variates in each bin, fitted there and in its neighbours."""
    products = np.einsum("kbi,kbj->bij", variates, variates)
    moments = np.einsum("kbi,kb->bi", variates, losses)

    def pooled(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, [(1, 1)] + [(0, 0)] * (values.ndim - 1))
        return padded[:-2] + padded[1:-1] + padded[2:]

    return (np.linalg.pinv(pooled(products), hermitian=True) @ pooled(moments)[:, :, None])[:, :, 0]


def make_plan(pilot: Pilot, num_images: int, target: float, num_steps: int | None = None) -> Plan:
    """The density and the fewest draws whose expected standard error is below `target`.

    Stratified times leave the noise of ε, so the density that serves them best is ∝ √Var_ε of the loss; a tenth of it
    stays uniform. With few steps, sums over all of them leave nothing but that noise.

    Raises `TooManyDrawsError` if more than `MAX_DRAWS` draws an image would be needed.
    """
    allowed = (target / MARGIN) ** 2 * num_images * ROUNDS
    spread = np.sqrt(pilot.noise)
    importance = 0.9 * spread / spread.sum() + 0.1 / TIME_BINS
    uniform = np.full(TIME_BINS, 1 / TIME_BINS)
    plain = _fewest(pilot, uniform, allowed)
    if num_steps is not None:
        noise = float(np.mean(pilot.noise)) + pilot.reconstruction_variance
        plain = min(plain, num_steps * max(1, math.ceil(noise / allowed / num_steps)))
    weighted = _fewest(pilot, importance, allowed)
    num_draws = min(plain, weighted)
    if num_draws > MAX_DRAWS:
        raise TooManyDrawsError(f"target={target:g}: would take over {MAX_DRAWS} draws an image; must be larger")
    return Plan(
        importance if weighted < plain else None,
        pilot.controls,
        num_draws,
        iid_calls=max(pilot.one_draw_variance / (num_images * target**2), 1.0),
        pilot_calls=pilot.first.size * 2 / num_images,
    )


def _fewest(pilot: Pilot, probabilities: np.ndarray, allowed: float) -> int:
    """The fewest draws with a variance below `allowed`, by doubling and bisection."""
    low, high = 0, 1
    while high <= MAX_DRAWS and pilot.variance(probabilities, high) > allowed:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if pilot.variance(probabilities, middle) > allowed else (low, middle)
    return high
