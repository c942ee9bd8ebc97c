"""The bound to a stated precision with the fewest network calls: a pilot, a plan made from it, and its evaluation.

The error in question is that of the draws alone, for the images at hand (`Evaluation.noise_stderr`). The plan is fixed
before the first draw that counts, and the pilot's draws do not count, so the estimate is unbiased.

Draws come in pairs. An image's n pairs have a stratum each, and every draw has a time of its own in it, independent of
all others. So the variance over the 2n draws is that within the strata, (noise + curve(n)) / 2n: the variance over ε,
and what the mean loss varies over a stratum, which falls as 1/n² where the loss is smooth. And half the squared
differences within the pairs are an unbiased estimate of it, with n degrees of freedom an image. (One common offset for
all strata would leave more, 1/n² in all for 1/n³, and no estimate of it.)

Strata are of equal probability, for a density on γ and not on t: the loss as a function of γ is smooth whatever the
schedule, where γ(t) may be so steep that few draws at uniform times would see most of the loss. On γ the density is
∝ √Var_ε of the loss (Neyman 1934), and control variates take out part of that noise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from vdm import bounds, parallel
from vdm.data import num_evaluated, selected
from vdm.data.dataset import Source
from vdm.evaluation.bound import Evaluation, Evaluator, Progress, Scheme
from vdm.model import Variables

BINS = 32
"""Equal bins of γ in which the pilot draws, and that have control variates of their own."""

POINTS = 4096
"""Steps of the tables of γ and of the density."""

PILOT_IMAGES = 32
"""Images of the pilot, each with a curve: two draws in every bin of γ."""

MIN_CURVES = 8
"""Fewer images have several curves each, or the factors of the controls would be those of the curves' own noise."""

MIN_PAIRS = 64
"""Pairs of draws that an evaluation has at the least, over all images: an error known from fewer is hardly known.

Strata differ in variance and noise is skewed: of 32 pairs, ± 2 errors held the bound in 92 of 100 cases.
"""

MARGIN = 1.1
"""The plan aims at the stated standard error divided by this, as the pilot's variances are estimates.

A pair less is enough for up to this times the stated one: the first few pairs have gaps between what they reach.
"""

MAX_DRAWS = 20_000

Curves = Float[np.ndarray, "curves bins"]
Table = Float[np.ndarray, " points"]


class TooManyDrawsError(ValueError):
    """A target that no plan reaches within `MAX_DRAWS` draws an image."""


class Pilot(NamedTuple):
    """Two independent draws at one γ in every bin, the same for both: one curve of an image or more, in bits/dim.

    The loss L of the bound is ∫ L(v) dv over the share v of the way from γ(0) to γ(1), so γ = γ(0) + v (γ(1) − γ(0)).
    """

    first: Curves
    """L at v = (bin + offset)/`BINS` of the first draws, less the control variates."""
    second: Curves
    """Of the second draws."""
    offsets: Float[np.ndarray, " curves"]
    """Each in [0, 1)."""
    noise: Float[np.ndarray, " bins"]
    """Variance over ε of a draw of L that a plan makes with these controls, a mean over images, smoothed over bins."""
    noise_at_uniform_times: float
    """The same of a draw of the loss at a uniform time t."""
    controls: Float[np.ndarray, "bins 2"]
    """The factors of the control variates."""
    one_draw_variance: float
    """Variance of one draw of an image's bound at a uniform time without controls, a mean over images."""
    reconstruction_variance: float
    """Variance over its noise of one draw of the reconstruction term, a mean over images."""

    def variance(self, density: Table) -> Callable[[int], float]:
        """Variance of the mean of an image's draws, by its pairs, in strata of this density of v: a mean over images.

        What the loss varies within strata is found at powers of two, and straight in logarithms between them. It falls
        as 1/n² where strata are well within bins.
        """
        weight = 1 / np.mean(np.reshape(_cells(density), (BINS, -1)), axis=1)
        noise = float(np.mean(self.noise * weight)) + self.reconstruction_variance
        numbers = 2.0 ** np.arange(8)
        within = np.array([_within_strata(self, density, int(n)) for n in numbers])
        logs = np.log(np.maximum(within, 1e-12 * within.max() + 1e-300))

        def of(num_pairs: int) -> float:
            beyond = min(numbers[-1] / num_pairs, 1.0) ** 2
            curve = beyond * np.exp(np.interp(np.log(num_pairs), np.log(numbers), logs))
            return float(noise + curve) / (2 * num_pairs)

        return of


def _within_strata(pilot: Pilot, density: Table, num_strata: int) -> float:
    """The variance of E L/density within equally probable strata, a mean over them and over images.

    It is the covariance there of the two draws' curves, straight between their points: their noise is independent.
    """
    points = max(8, 256 // num_strata)
    u = (np.arange(num_strata * points) + 0.5) / (num_strata * points)
    v = np.interp(u, _distribution(density), np.linspace(0, 1, POINTS + 1))
    weight = 1 / np.interp(v, np.linspace(0, 1, POINTS + 1), density)
    place = v[None] * BINS - pilot.offsets[:, None]
    # Beyond the first and last points too: curves are steepest there.
    k = np.clip(np.floor(place).astype(int), 0, BINS - 2)

    def centred(curves: Curves) -> np.ndarray:
        left, right = np.take_along_axis(curves, k, axis=1), np.take_along_axis(curves, k + 1, axis=1)
        values = (left + (place - k) * (right - left)) * weight
        values = values.reshape(len(curves), num_strata, points)
        return values - values.mean(axis=2, keepdims=True)

    return max(float(np.mean(centred(pilot.first) * centred(pilot.second))), 0.0)


def _distribution(density: Table) -> Table:
    """F(v) of a density at equally spaced v, straight between them."""
    summed = np.concatenate([[0.0], np.cumsum(_cells(density))])
    return summed / summed[-1]


def _cells(density: Table) -> Float[np.ndarray, " cells"]:
    """The means between the points of a table."""
    return (density[:-1] + density[1:]) / 2


@dataclass(frozen=True)
class Plan:
    """How an evaluation is done, and what it is expected to need."""

    scheme: Scheme
    """Of its times and controls."""
    num_pairs: int
    """Pairs of draws an image, each in a stratum of its own."""
    iid_calls: float
    """Calls an image that independent uniform times would need for the same standard error."""
    pilot_calls: float
    """Calls the pilot took, by image evaluated."""

    @property
    def calls(self) -> int:
        """Network calls an image, without the pilot's."""
        return 2 * self.num_pairs

    @property
    def times(self) -> str:
        """How times are drawn."""
        return "stratified, " + ("uniform" if self.scheme.quantiles is None else "importance-sampled")

    def to_dict(self) -> dict[str, Any]:
        """For the file of the result, beside its numbers."""
        return {
            "times": self.times,
            "calls_per_image": self.calls,
            "pilot_calls_per_image": self.pilot_calls,
            "iid_calls_per_image": self.iid_calls,
        }


def evaluate_to(
    evaluator: Evaluator,
    variables: Variables,
    source: Source,
    key: PRNGKeyArray,
    target: float,
    num_steps: int | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[Evaluation, Plan]:
    """The bound on the images of `source` with a `noise_stderr` of about `target` bits/dim, and its plan.

    The error comes out smaller where `MIN_PAIRS` are more than enough.
    """
    pilot_key, _ = jax.random.split(key)
    levels = levels_table(lambda t: _gamma(evaluator, variables, t))
    pilot = run_pilot(evaluator, variables, source, pilot_key, levels, num_steps)
    plan = make_plan(pilot, levels, len(source), target, num_steps)
    return evaluate_by(plan, evaluator, variables, source, key, num_steps, progress), plan


def evaluate_by(
    plan: Plan,
    evaluator: Evaluator,
    variables: Variables,
    source: Source,
    key: PRNGKeyArray,
    num_steps: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """The bound on `source` with the draws of a plan: from the key of `evaluate_to`, its very times and noise."""
    _, key = jax.random.split(key)
    return evaluator(variables, source, key, plan.calls, progress=progress, num_steps=num_steps, scheme=plan.scheme)


def _gamma(evaluator: Evaluator, variables: Variables, t: Float[np.ndarray, " num"]) -> np.ndarray:
    gamma = jax.jit(evaluator.model.gamma, out_shardings=parallel.replicated(evaluator.mesh))
    return np.asarray(gamma(variables, jnp.asarray(t, jnp.float32)))


def levels_table(gamma: Callable[[np.ndarray], ArrayLike | Array]) -> Table:
    """The times t at which γ(t) is v of the way from γ(0) to γ(1), for equally spaced v from 0 to 1.

    >>> table = levels_table(lambda t: 3 + 2 * t)
    >>> len(table), float(np.abs(table - np.linspace(0, 1, POINTS + 1)).max()) < 1e-6
    (4097, True)
    """
    # Closest at the ends, where schedules may be steepest.
    t = np.sin(np.linspace(0, np.pi / 2, 40_001)) ** 2
    levels = np.maximum.accumulate(np.asarray(gamma(t), np.float64))
    table = np.interp(np.linspace(levels[0], levels[-1], POINTS + 1), levels, t)
    table[0], table[-1] = 0.0, 1.0
    return table


def run_pilot(
    evaluator: Evaluator,
    variables: Variables,
    source: Source,
    key: PRNGKeyArray,
    levels: Table,
    num_steps: int | None = None,
) -> Pilot:
    """Curves of `PILOT_IMAGES` images from all over `source`, each with an offset of its own."""
    num = num_evaluated(source, PILOT_IMAGES)
    indices = selected(len(source), num)
    repeats = -(-MIN_CURVES // num)
    # Off the ends of the bins, where float32 could take one for another.
    random = np.random.default_rng(np.asarray(jax.random.key_data(key))).random((repeats, num))
    offsets = 0.0005 + 0.999 * random

    def place(r: int, index: np.ndarray) -> np.ndarray:
        """Both rounds of a curve have the same. What the padding gets does not count."""
        return offsets[r // 2, np.searchsorted(indices, index) % num]

    # Not filled up to the batch of the evaluation proper: that would be many times the work.
    estimates = evaluator.resized(num).estimates(
        variables,
        source,
        key,
        BINS,
        rounds=2 * repeats,
        max_images=num,
        num_steps=num_steps,
        scheme=Scheme(levels, _edges(levels), np.zeros((BINS, 2))),
        offsets=place,
    )

    def curves(values: np.ndarray) -> np.ndarray:
        """(2 draws, curves, …) of (rounds, images, …) in nats."""
        values = values.reshape(repeats, 2, num, *values.shape[2:])
        return np.moveaxis(values, 1, 0).reshape(2, repeats * num, *values.shape[3:])

    drawn = curves(estimates.by_time.astype(np.float64))
    unit = bounds.bits_per_dim(1.0, evaluator.model.num_dims)
    return to_pilot(
        drawn[..., 1] * unit,
        drawn[..., 3:] * unit,
        drawn[0, ..., 0],
        curves(estimates.terms[:, 0]) * unit,
        offsets.reshape(-1),
    )


def _edges(levels: Table) -> Float[np.ndarray, " edges"]:
    """The times at the ends of the bins of γ."""
    return levels[:: POINTS // BINS]


def to_pilot(
    losses: Float[np.ndarray, "2 curves bins"],
    variates: Float[np.ndarray, "2 curves bins 2"],
    measure: Float[np.ndarray, "curves bins"],
    reconstruction: Float[np.ndarray, "2 curves"],
    offsets: Float[np.ndarray, " curves"],
) -> Pilot:
    """From two draws at each place: L(v) = `measure` × loss at t, for `measure` = dt/dv there; in bits/dim.

    The reconstruction is a mean over the draws of a curve.
    """
    # The two draws are independent, so their product is free of the noise that a square of means would have.
    squared_mean = np.mean(losses[0].mean(axis=1) * losses[1].mean(axis=1))
    # A draw at a uniform time is L/measure with probability measure. No time lies where it is 0.
    square = np.mean(_divided(np.square(losses).mean(axis=0), measure))
    reconstruction_variance = float(BINS * np.mean(np.square(reconstruction[0] - reconstruction[1])) / 2)
    factors = _regress(losses[0] - losses[1], variates[0] - variates[1])
    first, second = losses - np.sum(factors * variates, axis=-1)
    # Factors fitted to m pairs leave less noise in those pairs, by 1 − 2/m, than in others, 1 + 2/m (Akaike 1969).
    pairs = 3 * len(offsets)
    noise = np.square(first - second) / 2 * (pairs + 2) / (pairs - 2)
    padded = np.pad(noise.mean(axis=0), 1, mode="edge")
    return Pilot(
        first,
        second,
        offsets,
        noise=(padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4,
        noise_at_uniform_times=float(np.mean(_divided(noise, measure))),
        controls=factors,
        one_draw_variance=float(square - squared_mean) + reconstruction_variance,
        reconstruction_variance=reconstruction_variance,
    )


def _divided(values: np.ndarray, measure: np.ndarray) -> np.ndarray:
    return np.divide(values, measure, out=np.zeros_like(values), where=measure > 0)


def _regress(
    losses: Float[np.ndarray, "curves bins"], variates: Float[np.ndarray, "curves bins 2"]
) -> Float[np.ndarray, "bins 2"]:
    """Least-squares factors of the variates in each bin, fitted there and in its neighbours."""
    products = np.einsum("kbi,kbj->bij", variates, variates)
    moments = np.einsum("kbi,kb->bi", variates, losses)

    def pooled(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, [(1, 1)] + [(0, 0)] * (values.ndim - 1))
        return padded[:-2] + padded[1:-1] + padded[2:]

    return (np.linalg.pinv(pooled(products), hermitian=True) @ pooled(moments)[:, :, None])[:, :, 0]


def make_plan(pilot: Pilot, levels: Table, num_images: int, target: float, num_steps: int | None = None) -> Plan:
    """The density and the fewest draws whose expected standard error is about `target`: up to `MARGIN` times it.

    Stratified draws leave the noise of ε, so the density that serves them best is ∝ √Var_ε of the loss; a tenth of it
    stays uniform. With few steps, sums over all of them leave nothing but that noise.

    Raises `TooManyDrawsError` if more than `MAX_DRAWS` draws an image would be needed.
    """
    allowed, least = (target / MARGIN) ** 2 * num_images, math.ceil(MIN_PAIRS / num_images)
    uniform = np.ones(POINTS + 1)
    spread = np.interp(np.linspace(0, 1, POINTS + 1), (np.arange(BINS) + 0.5) / BINS, np.sqrt(pilot.noise))
    densities = [uniform]
    if np.any(spread > 0):
        densities.append(0.9 * spread / np.mean(_cells(spread)) + 0.1)
    pairs = [_fewest(pilot.variance(density), allowed, least) for density in densities]
    best = int(np.argmin(pairs))
    num_pairs, density = pairs[best], densities[best]
    quantiles = np.interp(np.linspace(0, 1, POINTS + 1), _distribution(density), levels)
    scheme = Scheme(quantiles, _edges(levels), pilot.controls)
    if num_steps is not None:
        noise = pilot.noise_at_uniform_times + pilot.reconstruction_variance
        whole = num_steps * max(math.ceil(least / num_steps), math.ceil(noise / (2 * allowed) / num_steps))
        # Few pairs leave the jumps between the steps to a handful of strata: an error that is hardly known.
        if whole <= max(num_pairs, 2 * least):
            num_pairs, scheme = whole, scheme._replace(quantiles=None)
    if 2 * num_pairs > MAX_DRAWS:
        raise TooManyDrawsError(f"target={target:g}: would take over {MAX_DRAWS} draws an image; must be larger")
    return Plan(
        scheme,
        num_pairs,
        iid_calls=max(pilot.one_draw_variance / (num_images * target**2), 1.0),
        pilot_calls=pilot.first.size * 2 / num_images,
    )


def _fewest(variance: Callable[[int], float], allowed: float, least: int) -> int:
    """The fewest pairs, `least` or more, with a variance up to `allowed`, by doubling and bisection.

    Some number above `MAX_DRAWS` / 2 where so many do not reach it.
    """
    low, high = least - 1, least
    while 2 * high <= MAX_DRAWS and variance(high) > allowed:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if variance(middle) > allowed else (low, middle)
    return low if low >= least and variance(low) <= MARGIN**4 * allowed else high
