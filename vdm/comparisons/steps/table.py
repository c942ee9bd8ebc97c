"""Discrete- against continuous-time bounds on the same images with the same noise: rows, their table, their errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vdm.comparisons import tables
from vdm.evaluation.statistics import Groups, stderr_over, stderr_over_images

T = int | None
"""A number of time steps; None is ∞, continuous time."""


@dataclass(frozen=True)
class Measurement:
    """The bound of one model at one T, image by image."""

    trained: T
    evaluated: T
    bits: Float[np.ndarray, " images"]
    """Bits/dim of each image, a mean over its draws."""
    num_draws: int
    """Network calls an image."""
    exact_sum: bool
    """Whether all T terms were summed."""
    revision: str
    """Git revision of the code that measured it; empty outside a checkout."""
    groups: Groups | None = None
    """What the images belong to, where the data say so."""


@dataclass(frozen=True)
class Row:
    """One number of the table, in bits/dim."""

    trained: T
    evaluated: T
    bits_per_dim: float
    stderr: float | None
    """Standard error over `stderr_over`; None where all images are of one group."""
    excess: float
    """Above the continuous-time model in continuous time, on the same images."""
    excess_stderr: float | None
    """Its standard error, paired: that of the images' differences."""
    drop: float | None
    """Below the row with the same kind of model and the next smaller T; None for the smallest."""
    drop_stderr: float | None
    """Its standard error, paired."""
    num_draws: int
    exact_sum: bool
    revision: str
    stderr_over: str = "images"
    """What the errors take as independent: "images" or "groups (3)"."""


def rows(measurements: Sequence[Measurement]) -> tuple[list[Row], list[Row]]:
    """(models at the T they were trained at, the ∞-trained model at every T), each by increasing T.

    The row of ∞ at ∞ ends both. Images must be in the same order in all measurements.
    """
    reference = next(m for m in measurements if m.trained is None and m.evaluated is None)

    def series(members: list[Measurement]) -> list[Row]:
        result, previous = [], None
        for m in sorted(members, key=lambda m: _order(m.evaluated)):
            bits, stderr = _mean(m.bits, m.groups)
            excess, excess_stderr = _mean(m.bits - reference.bits, m.groups)
            drop, drop_stderr = (None, None) if previous is None else _mean(previous.bits - m.bits, m.groups)
            numbers = (bits, stderr, excess, excess_stderr, drop, drop_stderr)
            over = stderr_over(m.groups)
            result.append(Row(m.trained, m.evaluated, *numbers, m.num_draws, m.exact_sum, m.revision, over))
            previous = m
        return result

    return (
        series([m for m in measurements if m.trained == m.evaluated]),
        series([m for m in measurements if m.trained is None]),
    )


def markdown(own: Sequence[Row], infinite: Sequence[Row]) -> str:
    """The `rows` as Table 2 of Kingma et al. (2021): T across, the two kinds of model down; then excess and drops."""
    columns = sorted({row.evaluated for row in (*own, *infinite)}, key=_order)

    def line(name: str, cells: dict[T, str]) -> str:
        return tables.row(name, [cells.get(column, "") for column in columns])

    def values(series: Sequence[Row]) -> dict[T, str]:
        return {row.evaluated: _with_error(f"{row.bits_per_dim:.3f}", row.stderr, 3) for row in series}

    def excess(series: Sequence[Row]) -> dict[T, str]:
        return {
            r.evaluated: _with_error(f"{r.excess:+.4f}", r.excess_stderr, 4) for r in series if r.evaluated is not None
        }

    def drop(series: Sequence[Row]) -> dict[T, str]:
        return {r.evaluated: _with_error(f"{r.drop:+.4f}", r.drop_stderr, 4) for r in series if r.drop is not None}

    lines = tables.head("T", ["∞" if column is None else str(column) for column in columns])
    for name, cells in (("", values), ("above ∞: ", excess), ("below the T before: ", drop)):
        lines += [
            line(f"{name}trained and evaluated at T", cells(own)),
            line(f"{name}trained at ∞, evaluated at T", cells(infinite)),
        ]
    if infinite[-1].stderr_over != "images":
        lines += ["", f"± over {infinite[-1].stderr_over}"]
    return "\n".join(lines)


def _mean(values: np.ndarray, groups: Groups | None) -> tuple[float, float | None]:
    """Mean and its standard error."""
    return float(values.mean()), stderr_over_images(values, groups)


def _with_error(value: str, stderr: float | None, digits: int) -> str:
    return value if stderr is None else f"{value} ± {stderr:.{digits}f}"


def _order(num_steps: T) -> float:
    return math.inf if num_steps is None else float(num_steps)
