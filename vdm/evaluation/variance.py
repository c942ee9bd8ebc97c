"""How noisy the one-draw estimate of the bound is, by noise schedule and by the sampling of times: Fig. 4b of VDM.

In continuous time every schedule between the same end points has the same bound, but not the same noise.
"""

import functools
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, PRNGKeyArray

from vdm import schedules
from vdm.data.dataset import Source
from vdm.evaluation.likelihood import Estimates, Evaluator, Progress
from vdm.model import Model, Variables
from vdm.schedules import Schedule

LINEAR = "log-SNR-linear"


@dataclass(frozen=True)
class Variance:
    """Of the bits/dim of one draw, an image given: (bits/dim)², with jackknife standard errors over the rounds."""

    schedule: str
    iid: float
    """With independent uniform times."""
    iid_stderr: float
    stratified: float
    """With times stratified over batches: the variance of a batch's mean, times the images in it."""
    stratified_stderr: float
    bits_per_dim: float
    """The bound itself, the same for all but for noise."""
    bits_per_dim_stderr: float


@dataclass(frozen=True)
class Report:
    """The variance by schedule, and the least that any schedule between the same end points has."""

    lines: list[Variance]
    batch_size: int
    """Images in a batch over which times were stratified."""
    num_images: int
    rounds: int
    """Draws of each image."""
    least: float
    """With independent times, (bits/dim)²: see `_least`."""

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def with_equal_ends(model: Model, variables: Variables) -> dict[str, tuple[Schedule, Any]]:
    """The model's own schedule and the fixed ones between its end points: (schedule, its parameters) by name."""
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
    """One line a schedule for the continuous-time bound, of any model.

    From `rounds` draws of each of the first `max_images` images (0: all) that make whole batches of `batch_size`.
    Times are stratified over each batch, as in training. One image's time is then uniform, and independent from round
    to round, so the same draws give the variance with independent times; images and noise are those of every schedule.
    """
    num = min(max_images or len(source), len(source))
    batch_size = min(batch_size, num)
    num -= num % batch_size
    table = with_equal_ends(model, variables)
    starts = np.random.default_rng(np.asarray(jax.random.key_data(key))).random((rounds, num // batch_size))

    def offsets(r: int, index: np.ndarray) -> np.ndarray:
        # The padding's index is −1; what it gets does not count.
        return (starts[r, index // batch_size] + index % batch_size / batch_size) % 1.0

    lines, least = [], np.nan
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
        unit = model.num_dims * np.log(2)
        lines.append(_summary(name, estimates.terms.sum(axis=1) / unit, batch_size))
        if name == LINEAR:
            least = _least(estimates, unit)
    return Report(lines, batch_size, num, rounds, least)


def _least(estimates: Estimates, unit: float) -> float:
    """The variance of one draw with the best schedule, from draws with the linear one: `unit` nats are a bit/dim.

    With l = ½ ‖ε − ε̂‖² and L = γ' l, E[L²] = ∫ γ' E[l²] dγ is least where γ' ∝ 1/√E[l²] (Cauchy–Schwarz), and then
    (∫ √E[l²] dγ)². The linear schedule's bins of time are equal bins of γ.
    """
    rounds = len(estimates.terms)
    count, _, second = np.moveaxis(estimates.by_time[..., :3].astype(np.float64).sum(axis=(0, 1)), -1, 0)
    filled = count > 0
    square = np.mean(np.sqrt(second[filled] / count[filled])) ** 2
    diffusion = estimates.terms[:, 2]
    # Of an image's mean, without the noise of its draws.
    squared_mean = np.mean(np.square(diffusion.sum(0)) - np.square(diffusion).sum(0)) / (rounds * (rounds - 1))
    return float(square - squared_mean + estimates.terms[:, 0].var(axis=0, ddof=1).mean()) / unit**2


def _part(progress: Progress, k: int, parts: int, done: int, total: int) -> None:
    """Progress of part k of so many as that of the whole."""
    progress(k * total + done, parts * total)


def _summary(schedule: str, bits: Float[np.ndarray, "rounds images"], batch_size: int) -> Variance:
    rounds, num = bits.shape
    means = bits.reshape(rounds, num // batch_size, batch_size).mean(axis=2)
    mean = bits.mean(axis=1)
    iid, iid_stderr = _variance(bits)
    stratified, stratified_stderr = _variance(means)
    return Variance(
        schedule,
        iid,
        iid_stderr,
        batch_size * stratified,
        batch_size * stratified_stderr,
        float(mean.mean()),
        float(mean.std(ddof=1) / np.sqrt(rounds)),
    )


def _variance(values: Float[np.ndarray, "rounds columns"]) -> tuple[float, float]:
    """(variance over rounds, a mean over columns; its jackknife standard error, leaving out a round at a time)."""
    rounds = len(values)
    first, second = values.sum(axis=0), np.square(values).sum(axis=0)
    without = (second - np.square(values) - np.square(first - values) / (rounds - 1)) / (rounds - 2)
    without = without.mean(axis=1)
    stderr = np.sqrt((rounds - 1) / rounds * np.square(without - without.mean()).sum())
    return float(values.var(axis=0, ddof=1).mean()), float(stderr)
