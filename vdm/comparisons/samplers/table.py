"""Samplers side by side: quality of samples by network calls, and the calls each needs to be as good as a reference."""

from collections.abc import Sequence
from typing import NamedTuple

from vdm.comparisons import tables
from vdm.evaluation.metrics import Estimate, Metric

STDERRS = 2.0
"""How many standard errors above the reference still count as being as good."""


class SamplerOutcome(NamedTuple):
    """What the images of one sampler at one number of steps came to by one metric."""

    sampler: str
    """As the config has it: "heun" or "heun@karras"."""
    steps: int
    calls: int
    """Network calls an image."""
    estimate: Estimate
    """Image k of every outcome came from the same z₁."""


class Measured(NamedTuple):
    """What one metric says of samplers."""

    metric: Metric
    floor: float
    """Its noise floor for as many images."""
    outcomes: Sequence[SamplerOutcome]
    reference: SamplerOutcome | None
    """The one that the others are held against, once it is measured."""

    @property
    def heading(self) -> str:
        """Of the tables."""
        return f"{self.metric.heading()} ({self.metric.floor} {self.metric.show(self.floor)})"

    def calls_needed(self, outcomes: Sequence[SamplerOutcome]) -> int | None:
        """The fewest network calls from which on one sampler is as good as the reference; None if it never is.

        As good is at most `STDERRS` standard errors of the difference worse; from there on is at every larger number
        of calls among the outcomes as well, so that one lucky draw does not count. None without a reference, too.
        """
        if self.reference is None:
            return None
        needed = None
        for outcome in sorted(outcomes, key=lambda o: o.calls, reverse=True):
            difference, stderr = outcome.estimate.above(self.reference.estimate)
            if (difference if self.metric.lower_is_better else -difference) > STDERRS * stderr:
                break
            needed = outcome.calls
        return needed


def by_sampler(outcomes: Sequence[SamplerOutcome]) -> dict[str, list[SamplerOutcome]]:
    """The outcomes of each sampler by increasing calls, samplers in the order of their first appearance."""
    groups: dict[str, list[SamplerOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.sampler, []).append(outcome)
    return {sampler: sorted(members, key=lambda o: o.calls) for sampler, members in groups.items()}


def noises_markdown(measured: Measured, samplers: Sequence[str], steps: Sequence[int]) -> str:
    """The metric by noise and steps, as Table 2 of Wang: samplers down, steps across; what is not measured is empty."""
    found = {(o.sampler, o.steps): o for o in measured.outcomes}
    lines = tables.head(measured.heading, [f"{n} steps" for n in steps])
    for sampler in samplers:
        lines.append(tables.row(sampler, [_cell(measured.metric, found.get((sampler, n))) for n in steps]))
    return "\n".join(lines)


def calls_markdown(measured: Measured, samplers: Sequence[str], calls: Sequence[int]) -> str:
    """The metric by network calls, samplers down; with a reference also the calls to be as good: `calls_needed`.

    A sampler of k calls a step is in the column of n calls with ⌊n/k⌋ steps; one without outcomes has no row.
    """
    metric, reference = measured.metric, measured.reference
    groups = by_sampler(measured.outcomes)
    columns = [f"{n} calls" for n in calls]
    if reference is not None:
        columns.append(f"calls to {reference.sampler} at {reference.calls}")
    lines = tables.head(measured.heading, columns)
    for sampler in samplers:
        if not (members := groups.get(sampler, [])):
            continue
        calls_per_step = members[0].calls // members[0].steps
        by_steps = {o.steps: o for o in members}
        cells = [_cell(metric, by_steps.get(n // calls_per_step)) for n in calls]
        if reference is not None:
            needed = measured.calls_needed(members)
            cells.append(f"> {members[-1].calls}" if needed is None else str(needed))
        lines.append(tables.row(sampler, cells))
    if reference is not None:
        lines += [
            "",
            f"Last column: the fewest calls from which on {metric.title} is at most {STDERRS:g} standard errors of the "
            f"paired difference {'above' if metric.lower_is_better else 'below'} {reference.sampler} at "
            f"{reference.calls}.",
        ]
    return "\n".join(lines)


def _cell(metric: Metric, outcome: SamplerOutcome | None) -> str:
    if outcome is None:
        return ""
    return f"{metric.show(outcome.estimate.value)} ± {metric.show(outcome.estimate.stderr)}"
