"""Discrete- and continuous-time bounds on the same images with the same noise: rows, table and errors."""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vdm.comparisons import tables
from vdm.comparisons.seeds import statistics
from vdm.evaluation.statistics import Groups, stderr_over, stderr_over_images

T = int | None
"""A number of time steps; None stands for ∞, continuous time."""


@dataclass(frozen=True)
class Measurement:
    """The bound of one run at one T, for each image."""

    trained: T
    evaluated: T
    seed: int
    """The run's seed; the noise of the estimates is the same for all seeds."""
    bits: Float[np.ndarray, " images"]
    """Bits/dim of each image, averaged over its draws."""
    num_draws: int
    """Network calls per image."""
    exact_sum: bool
    """Whether the bound is an exact sum over all T terms."""
    revision: str
    """Git revision of the code that measured it; empty outside a checkout."""
    groups: Groups | None = None
    """The group that each image belongs to, if the data specify groups."""


@dataclass(frozen=True)
class Mean:
    """A mean over runs and images, with the standard error due to each."""

    value: float
    over_seeds: float | None
    """Standard error for other runs on the same images; None for a single seed."""
    over_images: float | None
    """Standard error for the same runs on other images like these (or groups, if any); None for a single one."""

    @property
    def stderr(self) -> float | None:
        """The error in tables and figures: over seeds or, with a single seed, over images."""
        return self.over_images if self.over_seeds is None else self.over_seeds


@dataclass(frozen=True)
class Row:
    """The results of one kind of model at one T, in bits/dim: the cells that it fills in a column of the table.

    Differences are paired: between runs of the same seed, on the same images with the same noise.
    """

    trained: T
    evaluated: T
    bits_per_dim: Mean
    excess: Mean
    """Difference from the continuous-time models evaluated in continuous time."""
    drop: Mean | None
    """Improvement over the same kind of model at the next smaller T; None for the smallest."""
    gain: Mean | None
    """Improvement of models trained at T over continuous-time ones at the same T; None if these were not evaluated."""
    by_seed: dict[int, float]
    """Bits/dim of each run, by seed."""
    num_draws: int
    exact_sum: bool
    revision: str
    stderr_over: str
    """The units over which the shown errors are computed: "3 seeds" or, for one seed, "images" or "groups (3)"."""


def rows(measurements: Sequence[Measurement]) -> tuple[list[Row], list[Row]]:
    """Return (models evaluated at the T they were trained at, ∞-trained models at every T), each by increasing T.

    The row trained and evaluated at ∞ is the last of both. All measurements need the same seeds and the same images.
    """
    groups: dict[tuple[T, T], list[Measurement]] = {}
    for m in sorted(measurements, key=lambda m: (_order(m.evaluated), m.seed)):
        groups.setdefault((m.trained, m.evaluated), []).append(m)
    bits = {key: np.stack([m.bits for m in group]) for key, group in groups.items()}
    seeds = [m.seed for m in groups[None, None]]
    of_images = groups[None, None][0].groups
    mean = functools.partial(mean_of, groups=of_images)
    over = stderr_over(of_images) if len(seeds) == 1 else f"{len(seeds)} seeds"

    def series(keys: Iterable[tuple[T, T]]) -> list[Row]:
        result: list[Row] = []
        previous = None
        for key in keys:
            here, (trained, evaluated) = bits[key], key
            at_infinity = bits.get((None, evaluated)) if trained is not None else None
            result.append(
                Row(
                    trained,
                    evaluated,
                    bits_per_dim=mean(here),
                    excess=mean(here - bits[None, None]),
                    drop=None if previous is None else mean(previous - here),
                    gain=None if at_infinity is None else mean(at_infinity - here),
                    by_seed=dict(zip(seeds, here.mean(axis=1).tolist(), strict=True)),
                    num_draws=groups[key][0].num_draws,
                    exact_sum=groups[key][0].exact_sum,
                    revision=groups[key][0].revision,
                    stderr_over=over,
                )
            )
            previous = here
        return result

    return series(key for key in bits if key[0] == key[1]), series(key for key in bits if key[0] is None)


def mean_of(values: Float[np.ndarray, "seeds images"], groups: Groups | None = None) -> Mean:
    """Average numbers of each run and image; each error is that of the means over the other axis."""
    by_seed = values.mean(axis=1).tolist()
    over_seeds = None if len(by_seed) == 1 else statistics(by_seed)[1] / math.sqrt(len(by_seed))
    return Mean(float(values.mean()), over_seeds, stderr_over_images(values.mean(axis=0), groups))


def markdown(own: Sequence[Row], infinite: Sequence[Row]) -> str:
    """Format `rows` as Table 2 of Kingma et al. (2021): one column per T, both kinds of model, and differences."""
    columns = sorted({row.evaluated for row in (*own, *infinite)}, key=_order)

    def line(name: str, cells: dict[T, str]) -> str:
        return tables.row(name, [cells.get(column, "") for column in columns])

    def values(series: Sequence[Row]) -> dict[T, str]:
        return {row.evaluated: _text(row.bits_per_dim, ".3f") for row in series}

    def excess(series: Sequence[Row]) -> dict[T, str]:
        return {row.evaluated: _text(row.excess, "+.4f") for row in series if row.evaluated is not None}

    def drop(series: Sequence[Row]) -> dict[T, str]:
        return {row.evaluated: _text(row.drop, "+.4f") for row in series if row.drop is not None}

    lines = tables.head(
        f"T (± over {infinite[-1].stderr_over})", ["∞" if column is None else str(column) for column in columns]
    )
    for name, cells in (("", values), ("above ∞: ", excess), ("below the T before: ", drop)):
        lines += [
            line(f"{name}trained and evaluated at T", cells(own)),
            line(f"{name}trained at ∞, evaluated at T", cells(infinite)),
        ]
    gains = {row.evaluated: _text(row.gain, "+.4f") for row in own if row.gain is not None}
    return "\n".join([*lines, line("trained at T below trained at ∞, both at T", gains)])


def _text(mean: Mean, form: str) -> str:
    error = "" if mean.stderr is None else f" ± {mean.stderr:{form.removeprefix('+')}}"
    return f"{mean.value:{form}}{error}"


def _order(num_steps: T) -> float:
    return math.inf if num_steps is None else float(num_steps)
