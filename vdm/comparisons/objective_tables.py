"""Objectives side by side: bound, sample quality and gradient noise by prediction, weighting and proposal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vdm.comparisons import tables


class Objective(NamedTuple):
    """What tells two groups of runs apart."""

    prediction: str
    weighting: str
    proposal: str


@dataclass(frozen=True)
class ObjectiveOutcome:
    """What one run came to."""

    objective: Objective
    seed: int
    bits_per_dim: float
    """The bound on the test images, whatever was minimised."""
    mmd: float
    """MMD² of its samples from training images: `vdm.evaluation.metrics.mmd`."""
    gradient_noise: float
    """tr Cov(g)/‖E g‖² of a batch at the end: `vdm.training.gradient_noise`."""
    curve: tuple[tuple[int, float], ...]
    """(step, bits/dim of test images) while training."""


MEASURES = {
    "bits_per_dim": ("test bound, bits/dim", 1.0, 3),
    "mmd": ("1000 MMD² of samples", 1000.0, 2),
    "gradient_noise": ("gradient noise to signal", 1.0, 2),
}
"""Field, its title, the factor it is shown with, the digits."""


def statistics(outcomes: Sequence[ObjectiveOutcome], field: str) -> tuple[float, float]:
    """(mean over seeds, standard deviation over seeds: NaN of one)."""
    values = np.array([getattr(outcome, field) for outcome in outcomes])
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan


def group(outcomes: Sequence[ObjectiveOutcome]) -> dict[Objective, list[ObjectiveOutcome]]:
    """By objective, in the order of their first appearance."""
    groups: dict[Objective, list[ObjectiveOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.objective, []).append(outcome)
    return groups


def markdown(outcomes: Sequence[ObjectiveOutcome], noise: float) -> str:
    """A table for each measure: predictions across, weightings (and proposals) down; mean ± std over seeds.

    `noise` is the noise floor of MMD².
    """
    groups = group(outcomes)
    columns = list(dict.fromkeys(objective.prediction for objective in groups))
    rows = list(dict.fromkeys((objective.weighting, objective.proposal) for objective in groups))
    several = len({proposal for _, proposal in rows}) > 1
    lines: list[str] = []
    for field, (title, factor, digits) in MEASURES.items():
        note = f" (noise floor {factor * noise:.{digits}f})" if field == "mmd" else ""
        lines += ["", *tables.head(title + note, columns)]
        for weighting, proposal in rows:
            cells = []
            for prediction in columns:
                members = groups.get(Objective(prediction, weighting, proposal))
                mean, std = statistics(members, field) if members else (np.nan, np.nan)
                cells.append(f"{factor * mean:.{digits}f} ± {factor * std:.{digits}f}" if members else "")
            name = f"{weighting}, {proposal}" if several else weighting
            lines.append(tables.row(name, cells))
    return "\n".join(lines[1:])


def steps_to_reach(curve: Sequence[tuple[int, float]], level: float) -> float:
    """The step at which a loss curve first comes down to `level`, straight between its points; ∞ if it does not."""
    previous = None
    for step, loss in curve:
        if loss <= level:
            if previous is None:
                return float(step)
            share = (previous[1] - level) / (previous[1] - loss)
            return previous[0] + share * (step - previous[0])
        previous = (step, loss)
    return np.inf


def speed_ups(outcomes: Sequence[ObjectiveOutcome]) -> dict[Objective, float]:
    """Steps that the runs of a proposal need to come to the final loss of those with the first proposal, as a ratio.

    Of mean curves over the seeds that both have, at the steps that all have, with the same prediction and weighting;
    below 1 it is faster, down to a curve's first point. Objectives without such curves are left out.
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
