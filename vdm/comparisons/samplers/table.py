"""Tables of samplers: sample quality by network calls, and the calls needed to match a reference."""

from collections.abc import Sequence
from typing import NamedTuple

from vdm.comparisons import tables
from vdm.evaluation.metrics import Estimate, Metric

STDERRS = 2.0
"""Number of standard errors by which a sampler may be worse and still count as matching the reference."""


class SamplerOutcome(NamedTuple):
    """The result of one sampler with one number of steps, by one metric."""

    sampler: str
    """The sampler as in the config: "heun" or "heun@karras"."""
    steps: int
    calls: int
    """Network calls per image."""
    estimate: Estimate
    """The metric's estimate; image k of every outcome starts from the same z₁."""


class Measured(NamedTuple):
    """The results of samplers by one metric."""

    metric: Metric
    floor: float
    """The metric's noise floor for this number of images."""
    outcomes: Sequence[SamplerOutcome]
    reference: SamplerOutcome | None
    """The outcome that the others are compared with, once it is measured."""

    @property
    def heading(self) -> str:
        """The heading of the tables."""
        return f"{self.metric.heading()} ({self.metric.floor} {self.metric.show(self.floor)})"

    def calls_needed(self, outcomes: Sequence[SamplerOutcome]) -> int | None:
        """Return the fewest network calls from which on a sampler matches the reference; None if it never does.

        Matching means being worse by at most `STDERRS` standard errors of the difference. It must hold for all larger
        numbers of calls among the outcomes, too, so that one lucky draw does not count. None if there is no reference.
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
    """Group outcomes by sampler in the order of first appearance, each sorted by calls."""
    groups: dict[str, list[SamplerOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.sampler, []).append(outcome)
    return {sampler: sorted(members, key=lambda o: o.calls) for sampler, members in groups.items()}


def noises_markdown(measured: Measured, samplers: Sequence[str], steps: Sequence[int]) -> str:
    """Format the metric by sampler (rows) and steps (columns), as in Table 2 of Wang; missing cells are empty."""
    found = {(o.sampler, o.steps): o for o in measured.outcomes}
    lines = tables.head(measured.heading, [f"{n} steps" for n in steps])
    for sampler in samplers:
        lines.append(tables.row(sampler, [_cell(measured.metric, found.get((sampler, n))) for n in steps]))
    return "\n".join(lines)


def calls_markdown(measured: Measured, samplers: Sequence[str], calls: Sequence[int]) -> str:
    """Format the metric by sampler and network calls, and the calls needed to match the reference (`calls_needed`).

    With k calls per step, the column of n calls shows ⌊n/k⌋ steps. Samplers without outcomes have no row.
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
