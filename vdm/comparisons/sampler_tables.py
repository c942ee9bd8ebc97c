"""Samplers side by side: quality of samples by network calls, and the calls each needs to be as good as a reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vdm.comparisons import tables
from vdm.evaluation.statistics import jackknife

FACTOR, DIGITS = 1000.0, 2
"""Tables show MMD² times this, to so many digits."""

STDERRS = 2.0
"""How many standard errors above the reference still count as being as good."""


@dataclass(frozen=True)
class SamplerOutcome:
    """What the images of one sampler at one number of steps came to."""

    sampler: str
    """As the config has it: "heun" or "heun@karras"."""
    steps: int
    calls: int
    """Network calls an image."""
    mmd: float
    """MMD² from training images: `vdm.evaluation.metrics.mmd`."""
    without: Float[np.ndarray, " images"]
    """MMD² without each of the images; image k of every outcome came from the same z₁."""

    @property
    def stderr(self) -> float:
        """Standard error of `mmd` over images."""
        return float(jackknife(self.without))


def excess(outcome: SamplerOutcome, reference: SamplerOutcome) -> tuple[float, float]:
    """(MMD² above that of the reference, its standard error: paired, from the same z₁)."""
    return outcome.mmd - reference.mmd, float(jackknife(outcome.without - reference.without))


def calls_needed(outcomes: Sequence[SamplerOutcome], reference: SamplerOutcome) -> int | None:
    """The fewest network calls from which on one sampler is as good as the reference; None if it never is.

    As good is at most `STDERRS` standard errors of the difference above it; from there on is at every larger number of
    calls among the outcomes as well, so that one lucky draw does not count.
    """
    needed = None
    for outcome in sorted(outcomes, key=lambda o: o.calls, reverse=True):
        difference, stderr = excess(outcome, reference)
        if difference > STDERRS * stderr:
            break
        needed = outcome.calls
    return needed


def by_sampler(outcomes: Sequence[SamplerOutcome]) -> dict[str, list[SamplerOutcome]]:
    """The outcomes of each sampler by increasing calls, samplers in the order of their first appearance."""
    groups: dict[str, list[SamplerOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.sampler, []).append(outcome)
    return {sampler: sorted(members, key=lambda o: o.calls) for sampler, members in groups.items()}


def noises_markdown(
    outcomes: Sequence[SamplerOutcome], samplers: Sequence[str], steps: Sequence[int], floor: float
) -> str:
    """MMD² by noise and steps, as Table 2 of Wang: samplers down, steps across; what is not measured is empty."""
    found = {(o.sampler, o.steps): o for o in outcomes}
    lines = tables.head(_title(floor), [f"{n} steps" for n in steps])
    for sampler in samplers:
        lines.append(tables.row(sampler, [_cell(found.get((sampler, n))) for n in steps]))
    return "\n".join(lines)


def calls_markdown(
    outcomes: Sequence[SamplerOutcome],
    samplers: Sequence[str],
    calls: Sequence[int],
    calls_per_step: dict[str, int],
    reference: SamplerOutcome | None,
    floor: float,
) -> str:
    """MMD² by network calls, samplers down; with a reference also the calls to be as good: `calls_needed`.

    A sampler of k calls a step is in the column of n calls with ⌊n/k⌋ steps.
    """
    found = {(o.sampler, o.steps): o for o in outcomes}
    groups = by_sampler(outcomes)
    columns = [f"{n} calls" for n in calls]
    if reference is not None:
        columns.append(f"calls to {reference.sampler} at {reference.calls}")
    lines = tables.head(_title(floor), columns)
    for sampler in samplers:
        cells = [_cell(found.get((sampler, n // calls_per_step[sampler]))) for n in calls]
        if reference is not None:
            members = groups.get(sampler, [])
            needed = calls_needed(members, reference)
            cells.append(f"> {members[-1].calls}" if members and needed is None else str(needed or ""))
        lines.append(tables.row(sampler, cells))
    return "\n".join(lines)


def _title(floor: float) -> str:
    return f"{FACTOR:g} MMD² (noise floor {FACTOR * floor:.{DIGITS}f})"


def _cell(outcome: SamplerOutcome | None) -> str:
    if outcome is None:
        return ""
    return f"{FACTOR * outcome.mmd:.{DIGITS}f} ± {FACTOR * outcome.stderr:.{DIGITS}f}"
