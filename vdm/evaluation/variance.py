"""The noise of the one-draw estimate of the bound, by noise schedule and by sampling of times: Fig. 4b of VDM.

In continuous time, every schedule between the same endpoints has the same bound, Eq. 4.80 of De Sousa Ribeiro & Glocker
(2024), but not the same noise.
"""

import functools
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, PRNGKeyArray

from vdm import bounds, schedules
from vdm.data import num_evaluated, selected, selection
from vdm.data.dataset import Source
from vdm.evaluation.bound import TIME_BINS, Evaluator, Progress
from vdm.evaluation.statistics import jackknife
from vdm.model import Model, Variables
from vdm.schedules import Schedule, gamma_and_slope

LINEAR = "log-SNR-linear"


@dataclass(frozen=True)
class Variance:
    """Variance of one draw of an image's bound, in (bits/dim)², with jackknife standard errors over the rounds."""

    schedule: str
    iid: float
    """With independent uniform times."""
    iid_stderr: float
    stratified: float
    """With times stratified over batches: the variance of a batch's mean times the number of images in it."""
    stratified_stderr: float
    bits_per_dim: float
    """The bound itself, the same for all schedules up to noise."""
    bits_per_dim_stderr: float


@dataclass(frozen=True)
class Report:
    """The variance by schedule, and the lowest variance of any schedule between the same endpoints."""

    lines: list[Variance]
    batch_size: int
    """Number of images in each batch over which times were stratified."""
    num_images: int
    num_available: int
    """Number of images that these were chosen from."""
    rounds: int
    """Number of draws of each image."""
    least: float
    """The lowest variance, with independent times, in (bits/dim)²."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self) | {"images": selection.record(self.num_images, self.num_available)}


def with_equal_ends(model: Model, variables: Variables) -> dict[str, tuple[Schedule, Any]]:
    """Return the model's own schedule and the fixed ones with equal endpoints: (schedule, its parameters) by name."""
    low, high = (float(model.gamma(variables, jnp.float32(t))) for t in (0, 1))
    fixed = {
        LINEAR: schedules.linear(low, high),
        "α-cosine": schedules.cosine(low, high),
        "β-linear": schedules.beta_linear(low, high),
    }
    return {"model's own": (model.schedule, variables["schedule"])} | {name: (s, {}) for name, s in fixed.items()}


def variance_report(
    model: Model,
    variables: Variables,
    mesh: Mesh,
    source: Source,
    key: PRNGKeyArray,
    *,
    batch_size: int,
    max_images: int,
    rounds: int,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Measure the variance of the continuous-time bound for each schedule, for any model.

    Each of `max_images` images spread over `source` (0: all) gets `rounds` draws; the number is rounded down to whole
    batches of `batch_size`. Times are stratified over each batch, as in training; images and noise are the same for
    every schedule. For a single image, the time is uniform and independent from round to round, so the draws with the
    linear schedule also give the variance with independent times, for every schedule.
    """
    num = num_evaluated(source, max_images)
    batch_size = min(batch_size, num)
    num -= num % batch_size
    table = with_equal_ends(model, variables)
    indices = selected(len(source), num)
    starts = np.random.default_rng(np.asarray(jax.random.key_data(key))).random((rounds, num // batch_size))

    def offsets(r: int, index: np.ndarray) -> np.ndarray:
        # Without padding, every index is one of `indices`.
        place = np.searchsorted(indices, index)
        return (starts[r, place // batch_size] + place % batch_size / batch_size) % 1.0

    bits, by_time = {}, {}
    for k, (name, (schedule, params)) in enumerate(table.items()):
        evaluator = Evaluator(replace(model, schedule=schedule), mesh, batch_size)
        estimates = evaluator.estimates(
            variables | {"schedule": params},
            source,
            key,
            1,
            rounds=rounds,
            max_images=num,
            offsets=offsets,
            progress=functools.partial(_part, progress, k, len(table)),
        )
        bits[name] = bounds.bits_per_dim(estimates.terms.sum(axis=1), model.num_dims)
        by_time[name] = estimates.by_time.astype(np.float64).sum(axis=1)
    densities = {name: _mean_slopes(schedule, params) for name, (schedule, params) in table.items()}
    count, squares = by_time[LINEAR][..., 0], by_time[LINEAR][..., 2]
    squares = bounds.bits_per_dim(bounds.bits_per_dim(squares, model.num_dims), model.num_dims)
    iid, least = _independent(count, squares, bits[LINEAR], densities)
    lines = [_summary(name, values, batch_size, iid[name]) for name, values in bits.items()]
    return Report(lines, batch_size, num, len(source), rounds, least)


def _mean_slopes(schedule: Schedule, params: Any) -> Float[np.ndarray, " bins"]:
    """Return the mean of γ' over each of `TIME_BINS` equal bins of γ, in units of γ(1) − γ(0)."""
    # Densest at the ends, where slopes may be steepest.
    t = jnp.asarray(np.sin(np.linspace(0, np.pi / 2, 40_001)) ** 2, jnp.float32)
    gamma, slope = (np.asarray(v, np.float64) for v in jax.jit(functools.partial(gamma_and_slope, schedule))(params, t))
    step, middle = np.diff(gamma), (gamma[1:] + gamma[:-1]) / 2
    span = gamma[-1] - gamma[0]
    bins = np.minimum(((middle - gamma[0]) / span * TIME_BINS).astype(int), TIME_BINS - 1)
    return np.bincount(bins, step * (slope[1:] + slope[:-1]) / 2, TIME_BINS) * TIME_BINS / span**2


def _independent(
    count: Float[np.ndarray, "rounds bins"],
    squares: Float[np.ndarray, "rounds bins"],
    bits: Float[np.ndarray, "rounds images"],
    densities: dict[str, Float[np.ndarray, " bins"]],
) -> tuple[dict[str, tuple[float, float]], float]:
    """Return (variance of one draw at an independent time, its standard error) by schedule, and the lowest variance.

    All come from draws with the linear schedule: `count` and the sum of L² in each bin, and the whole bounds `bits`.
    Its bins of time are equal bins of γ: with l = ½ ‖ε − ε̂‖² and L = γ' l, E[L²] = ∫ γ' E[l²] dγ. Draws with a steep
    schedule would hardly ever fall where most of its variance arises. The variance is lowest for γ' ∝ 1/√E[l²], where
    E[L²] is (∫ √E[l²] dγ)² (Cauchy–Schwarz). The errors are jackknife standard errors over rounds.
    """
    rounds = len(bits)
    # For the whole bound b, E[b²] is E[L²] of the diffusion loss L plus a rest that is the same for all schedules.
    rest = np.mean(np.square(bits)) - squares.sum() / count.sum()

    def variances(used: np.ndarray) -> np.ndarray:
        """Return the variance for every schedule and then the lowest one, from these rounds."""
        number, total, values = count[used].sum(axis=0), squares[used].sum(axis=0), bits[used]
        # With very few draws, some bins may be empty; these count as average.
        loss = np.where(number > 0, total / np.maximum(number, 1), total.sum() / number.sum())
        moments = [np.mean(density * loss) for density in densities.values()] + [np.mean(np.sqrt(loss)) ** 2]
        # The square of an image's mean, estimated without the noise of its draws.
        pairs = len(values) * (len(values) - 1)
        squared_mean = np.mean(np.square(values.sum(axis=0)) - np.square(values).sum(axis=0)) / pairs
        return np.array(moments) + rest - squared_mean

    everything = np.arange(rounds)
    whole = variances(everything)
    stderr = jackknife(np.stack([variances(np.delete(everything, r)) for r in range(rounds)]))
    by_name = {name: (float(v), float(e)) for name, v, e in zip(densities, whole[:-1], stderr[:-1], strict=True)}
    return by_name, float(whole[-1])


def _part(progress: Progress, k: int, parts: int, done: int, total: int) -> None:
    """Report progress on part k of `parts` as progress on the whole."""
    progress(k * total + done, parts * total)


def _summary(
    schedule: str, bits: Float[np.ndarray, "rounds images"], batch_size: int, iid: tuple[float, float]
) -> Variance:
    rounds, num = bits.shape
    means = bits.reshape(rounds, num // batch_size, batch_size).mean(axis=2)
    mean = bits.mean(axis=1)
    stratified, stderr = _variance(means)
    error = float(mean.std(ddof=1) / np.sqrt(rounds))
    return Variance(schedule, *iid, batch_size * stratified, batch_size * stderr, float(mean.mean()), error)


def _variance(values: Float[np.ndarray, "rounds columns"]) -> tuple[float, float]:
    """Return the variance over rounds, averaged over columns, and its jackknife standard error over rounds."""
    rounds = len(values)
    first, second = values.sum(axis=0), np.square(values).sum(axis=0)
    without = (second - np.square(values) - np.square(first - values) / (rounds - 1)) / (rounds - 2)
    without = without.mean(axis=1)
    return float(values.var(axis=0, ddof=1).mean()), float(jackknife(without))
