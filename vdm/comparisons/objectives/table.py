"""Tables of objectives: bound, sample quality and gradient noise by prediction, weighting and proposal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vdm.comparisons import tables
from vdm.comparisons.seeds import statistics
from vdm.evaluation.metrics import Metric


class Choice(NamedTuple):
    """An objective: what distinguishes two groups of runs."""

    prediction: str
    weighting: str
    proposal: str


@dataclass(frozen=True)
class ObjectiveOutcome:
    """The results of one run."""

    objective: Choice
    seed: int
    bits_per_dim: float
    """The bound on the test images, whatever objective was minimized."""
    metrics: Mapping[str, float]
    """Metrics of the run's samples, by name."""
    gradient_noise: float
    """tr Cov(g)/‖E g‖² of a batch gradient at the end of training; see `vdm.training.gradient_noise`."""
    curve: tuple[tuple[int, float], ...]
    """(step, bits/dim on test images) during training."""


class Number(NamedTuple):
    """A number of an outcome, and how a table formats it."""

    title: str
    value: Callable[[ObjectiveOutcome], float]
    show: Callable[[float], str]


def numbers(metrics: Mapping[str, Metric], floors: Mapping[str, float]) -> list[Number]:
    """Return all numbers that get a table; metrics come with their noise floors."""

    def quality(name: str, metric: Metric) -> Number:
        title = f"{metric.heading('of samples')} ({metric.floor} {metric.show(floors[name])})"
        return Number(title, lambda outcome: outcome.metrics[name], metric.show)

    return [
        Number("test bound, bits/dim", lambda outcome: outcome.bits_per_dim, "{:.3f}".format),
        *(quality(name, metric) for name, metric in metrics.items()),
        Number("gradient noise to signal", lambda outcome: outcome.gradient_noise, "{:.2f}".format),
    ]


def group(outcomes: Sequence[ObjectiveOutcome]) -> dict[Choice, list[ObjectiveOutcome]]:
    """Group outcomes by objective, in the order of first appearance."""
    groups: dict[Choice, list[ObjectiveOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.objective, []).append(outcome)
    return groups


def markdown(outcomes: Sequence[ObjectiveOutcome], metrics: Mapping[str, Metric], floors: Mapping[str, float]) -> str:
    """Format a table for each number: columns are predictions, rows weightings (and proposals); mean ± std."""
    groups = group(outcomes)
    predictions = list(dict.fromkeys(objective.prediction for objective in groups))
    rows = list(dict.fromkeys((objective.weighting, objective.proposal) for objective in groups))
    several = len({proposal for _, proposal in rows}) > 1
    lines: list[str] = []
    for number in numbers(metrics, floors):
        lines += ["", *tables.head(number.title, predictions)]
        for weighting, proposal in rows:
            cells = []
            for prediction in predictions:
                members = groups.get(Choice(prediction, weighting, proposal), [])
                cells.append(
                    " ± ".join(map(number.show, statistics([number.value(o) for o in members]))) if members else ""
                )
            name = f"{weighting}, {proposal}" if several else weighting
            lines.append(tables.row(name, cells))
    return "\n".join(lines[1:])


def steps_to_reach(curve: Sequence[tuple[int, float]], level: float) -> float:
    """Return the step at which a loss curve first reaches `level`, linearly interpolated; ∞ if it never does."""
    previous = None
    for step, loss in curve:
        if loss <= level:
            if previous is None:
                return float(step)
            share = (previous[1] - level) / (previous[1] - loss)
            return previous[0] + share * (step - previous[0])
        previous = (step, loss)
    return np.inf


def speed_ups(outcomes: Sequence[ObjectiveOutcome]) -> dict[Choice, float]:
    """Return the fraction of the steps in which each proposal reaches the final loss of the first; ∞ if it never does.

    Both have the same prediction and weighting. Values below 1 mean faster training; the smallest possible value is at
    a curve's first point. The curves are means over the seeds that both have, at the steps that all curves share.
    Objectives without such curves are left out.
    """
    groups = group(outcomes)
    ratios = {}
    first = next(iter(groups)).proposal
    for objective, members in groups.items():
        base = {outcome.seed: dict(outcome.curve) for outcome in groups.get(objective._replace(proposal=first), [])}
        own = {outcome.seed: dict(outcome.curve) for outcome in members if outcome.seed in base}
        curves = [curve for seed in own for curve in (own[seed], base[seed])]
        steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
        if objective.proposal != first and steps:
            goal = np.mean([base[seed][steps[-1]] for seed in own])
            mean = [(step, float(np.mean([curve[step] for curve in own.values()]))) for step in steps]
            ratios[objective] = steps_to_reach(mean, float(goal)) / steps[-1]
    return ratios
