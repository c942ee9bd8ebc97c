"""The bound to a requested precision with the fewest network calls: run a pilot, make a plan from it, then evaluate.

The precision is the standard error from the noise draws alone, for the images at hand (`Evaluation.noise_stderr`). The
plan is fixed before the evaluation's first draw, and the pilot's draws are not reused, so the estimate is unbiased.

Draws come in pairs. Each of an image's n pairs has its own stratum, and each draw its own time in that stratum,
independent of all others. The variance of the mean over the 2n draws is therefore the variance within the strata,
(noise + curve(n)) / 2n. Here noise is the variance over ε, and curve(n) that of the mean loss within a stratum, which
falls as 1/n² if the loss is smooth. Half the squared differences within the pairs estimate this variance without bias,
with n degrees of freedom per image. (A common offset for all strata would leave a larger contribution of the curve,
1/n² instead of 1/n³, and no estimate of it.)

The strata have equal probability under a density on γ rather than t: as a function of γ the loss is smooth whatever the
schedule, whereas γ(t) may be so steep that few draws at uniform times see most of the loss. The density on γ is
∝ √Var_ε of the loss (Neyman 1934), and control variates remove part of that noise.
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
"""Number of equal bins of γ; the pilot draws in each of them, and each has its own control coefficients."""

POINTS = 4096
"""Number of intervals in the tables of γ and of the density."""

PILOT_IMAGES = 32
"""Number of images in the pilot; each has a curve, that is, two draws in every bin of γ."""

MIN_CURVES = 8
"""Minimum number of curves; with fewer images, each has several. Else the controls would fit the curves' own noise."""

MIN_PAIRS = 64
"""Minimum number of pairs of draws, over all images: with fewer, the standard error itself is poorly known.

Strata differ in variance and the noise is skewed: with 32 pairs, ±2 standard errors covered the bound in 92 of 100
cases.
"""

MARGIN = 1.1
"""The plan aims at the requested standard error divided by this, since the pilot's variances are estimates.

One pair fewer is accepted if the expected error is then at most the requested one times this: with the first few pairs,
the attainable errors are far apart.
"""

MAX_DRAWS = 20_000

Curves = Float[np.ndarray, "curves bins"]
Table = Float[np.ndarray, " points"]


class TooManyDrawsError(ValueError):
    """A target that no plan reaches within `MAX_DRAWS` draws per image."""


class Pilot(NamedTuple):
    """Curves of the loss over γ in bits/dim: in every bin, two independent draws at the same γ.

    Each image has one curve or more. The diffusion loss is ∫ L(v) dv, where v is the fraction of the way from γ(0) to
    γ(1): γ = γ(0) + v (γ(1) − γ(0)).
    """

    first: Curves
    """L at v = (bin + offset)/`BINS` from the first draws, with the control variates subtracted."""
    second: Curves
    """The same from the second draws."""
    offsets: Float[np.ndarray, " curves"]
    """Offset of each curve within the bins, in [0, 1)."""
    noise: Float[np.ndarray, " bins"]
    """Variance over ε of a planned draw of L with these controls, averaged over images and smoothed over bins."""
    noise_at_uniform_times: float
    """The same variance for a draw of the loss at a uniform time t."""
    controls: Float[np.ndarray, "bins 2"]
    """Coefficients of the control variates."""
    one_draw_variance: float
    """Variance of one draw of an image's bound at a uniform time, without controls, averaged over images."""
    reconstruction_variance: float
    """Variance of one draw of the reconstruction term over its noise, averaged over images."""

    def variance(self, density: Table) -> Callable[[int], float]:
        """Return the function from n pairs to the variance of an image's mean over its draws, averaged over images.

        The strata have equal probability under this density of v. The variation of the loss within strata is computed
        for powers of two and interpolated linearly in logarithms; it falls as 1/n² once strata are much smaller than
        bins.
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
    """Return the variance of E[L]/density within equally probable strata, averaged over strata and images.

    It is estimated by the covariance of the two draws' curves, interpolated linearly: their noise is independent.
    """
    points = max(8, 256 // num_strata)
    u = (np.arange(num_strata * points) + 0.5) / (num_strata * points)
    v = np.interp(u, _distribution(density), np.linspace(0, 1, POINTS + 1))
    weight = 1 / np.interp(v, np.linspace(0, 1, POINTS + 1), density)
    place = v[None] * BINS - pilot.offsets[:, None]
    # Extrapolate beyond the first and last points: the curves are steepest there.
    k = np.clip(np.floor(place).astype(int), 0, BINS - 2)

    def centred(curves: Curves) -> np.ndarray:
        left, right = np.take_along_axis(curves, k, axis=1), np.take_along_axis(curves, k + 1, axis=1)
        values = (left + (place - k) * (right - left)) * weight
        values = values.reshape(len(curves), num_strata, points)
        return values - values.mean(axis=2, keepdims=True)

    return max(float(np.mean(centred(pilot.first) * centred(pilot.second))), 0.0)


def _distribution(density: Table) -> Table:
    """Return the distribution function F(v) of a density at equally spaced v, for linear interpolation."""
    summed = np.concatenate([[0.0], np.cumsum(_cells(density))])
    return summed / summed[-1]


def _cells(density: Table) -> Float[np.ndarray, " cells"]:
    """Return the means of neighboring points of a table."""
    return (density[:-1] + density[1:]) / 2


@dataclass(frozen=True)
class Plan:
    """How an evaluation is done, and how many network calls it is expected to need."""

    scheme: Scheme
    """Its times and control variates."""
    num_pairs: int
    """Pairs of draws per image, each in its own stratum."""
    iid_calls: float
    """Calls per image that independent uniform times would need for the same standard error."""
    pilot_calls: float
    """Calls that the pilot took, divided by the number of images evaluated."""

    @property
    def calls(self) -> int:
        """Network calls per image, without the pilot's."""
        return 2 * self.num_pairs

    @property
    def times(self) -> str:
        """How times are drawn, as text."""
        return "stratified, " + ("uniform" if self.scheme.quantiles is None else "importance-sampled")

    def to_dict(self) -> dict[str, Any]:
        """Return the entries that accompany the results in their file."""
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
    """Return the bound on `source` with a `noise_stderr` of about `target` bits/dim, and the plan behind it.

    The error comes out smaller if `MIN_PAIRS` are more than enough.
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
    """Evaluate the bound on `source` with a plan's draws; the key of `evaluate_to` gives the same times and noise."""
    _, key = jax.random.split(key)
    return evaluator(variables, source, key, plan.calls, progress=progress, num_steps=num_steps, scheme=plan.scheme)


def _gamma(evaluator: Evaluator, variables: Variables, t: Float[np.ndarray, " num"]) -> np.ndarray:
    gamma = jax.jit(evaluator.model.gamma, out_shardings=parallel.replicated(evaluator.mesh))
    return np.asarray(gamma(variables, jnp.asarray(t, jnp.float32)))


def levels_table(gamma: Callable[[np.ndarray], ArrayLike | Array]) -> Table:
    """Return the times t at which γ(t) is the fraction v of the way from γ(0) to γ(1), for equally spaced v in [0, 1].

    >>> table = levels_table(lambda t: 3 + 2 * t)
    >>> len(table), float(np.abs(table - np.linspace(0, 1, POINTS + 1)).max()) < 1e-6
    (4097, True)
    """
    # Densest at the ends, where schedules may be steepest.
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
    """Measure curves of `PILOT_IMAGES` images spread over `source`, each with its own offset."""
    num = num_evaluated(source, PILOT_IMAGES)
    indices = selected(len(source), num)
    repeats = -(-MIN_CURVES // num)
    # Stay off the edges of the bins, where float32 rounding could pick the wrong bin.
    random = np.random.default_rng(np.asarray(jax.random.key_data(key))).random((repeats, num))
    offsets = 0.0005 + 0.999 * random

    def place(r: int, index: np.ndarray) -> np.ndarray:
        """Return the offsets: the same in both rounds of a curve. Those of padding do not matter."""
        return offsets[r // 2, np.searchsorted(indices, index) % num]

    # With the batch size of the main evaluation, most of the batch would be padding.
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
        """Reshape (rounds, images, …) to (2 draws, curves, …)."""
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
    """Return the times at the edges of the bins of γ."""
    return levels[:: POINTS // BINS]


def to_pilot(
    losses: Float[np.ndarray, "2 curves bins"],
    variates: Float[np.ndarray, "2 curves bins 2"],
    measure: Float[np.ndarray, "curves bins"],
    reconstruction: Float[np.ndarray, "2 curves"],
    offsets: Float[np.ndarray, " curves"],
) -> Pilot:
    """Make a pilot from two draws at each point, in bits/dim.

    L(v) is `measure` times the loss at t, with `measure` = dt/dv at that point. `reconstruction` is averaged over the
    draws of a curve.
    """
    # The two draws are independent, so their product lacks the noise that the square of a mean would have.
    squared_mean = np.mean(losses[0].mean(axis=1) * losses[1].mean(axis=1))
    # A draw at a uniform time is L/measure, with probability measure. Where it is 0, there are no times.
    square = np.mean(_divided(np.square(losses).mean(axis=0), measure))
    reconstruction_variance = float(BINS * np.mean(np.square(reconstruction[0] - reconstruction[1])) / 2)
    factors = _regress(losses[0] - losses[1], variates[0] - variates[1])
    first, second = losses - np.sum(factors * variates, axis=-1)
    # Coefficients fitted to m pairs leave less noise in these pairs, by 1 − 2/m, than in others, 1 + 2/m (Akaike 1969).
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
    """Return the least-squares coefficients of the control variates in each bin, fitted to it and its neighbors."""
    products = np.einsum("kbi,kbj->bij", variates, variates)
    moments = np.einsum("kbi,kb->bi", variates, losses)

    def pooled(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, [(1, 1)] + [(0, 0)] * (values.ndim - 1))
        return padded[:-2] + padded[1:-1] + padded[2:]

    return (np.linalg.pinv(pooled(products), hermitian=True) @ pooled(moments)[:, :, None])[:, :, 0]


def make_plan(pilot: Pilot, levels: Table, num_images: int, target: float, num_steps: int | None = None) -> Plan:
    """Choose the density, and the fewest draws whose expected standard error is about `target`.

    The expected error is at most `MARGIN` times `target`. Stratified draws leave the noise of ε, so the best density is
    ∝ √Var_ε of the loss; a tenth of it is kept uniform. If T is small, an exact sum over all T terms, which leaves only
    that noise, is used instead.

    Raises `TooManyDrawsError` if more than `MAX_DRAWS` draws per image would be needed.
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
        # With few pairs, the loss's jumps between steps fall into a handful of strata, and the error is poorly known.
        # The exact sum is then preferred, even if it takes more pairs.
        if whole <= max(num_pairs, 2 * least):
            num_pairs, scheme = whole, scheme._replace(quantiles=None)
    if 2 * num_pairs > MAX_DRAWS:
        raise TooManyDrawsError(f"target={target:g}: would take over {MAX_DRAWS} draws per image; must be larger")
    return Plan(
        scheme,
        num_pairs,
        iid_calls=max(pilot.one_draw_variance / (num_images * target**2), 1.0),
        pilot_calls=pilot.first.size * 2 / num_images,
    )


def _fewest(variance: Callable[[int], float], allowed: float, least: int) -> int:
    """Find the fewest pairs, at least `least`, whose variance is at most `allowed`, by doubling and bisection.

    One pair fewer may be returned: see `MARGIN`. Returns a number above `MAX_DRAWS` / 2 if that many do not reach it.
    """
    low, high = least - 1, least
    while 2 * high <= MAX_DRAWS and variance(high) > allowed:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if variance(middle) > allowed else (low, middle)
    return low if low >= least and variance(low) <= MARGIN**4 * allowed else high
