"""Tables of objectives: means and deviations over seeds, steps to a level, ratios."""

import numpy as np

from vdm.comparisons.objectives.table import (
    Choice,
    ObjectiveOutcome,
    group,
    markdown,
    speed_ups,
    steps_to_reach,
)
from vdm.comparisons.seeds import statistics
from vdm.evaluation.metrics.mmd import mmd

METRICS = {"mmd": mmd()}


def outcome(prediction: str, proposal: str, seed: int, bits: float, curve=((10, 3.0), (20, 2.0))) -> ObjectiveOutcome:
    return ObjectiveOutcome(Choice(prediction, "elbo", proposal), seed, bits, {"mmd": bits / 1000}, 2 * bits, curve)


OUTCOMES = [
    outcome("eps", "uniform", 0, 1.0),
    outcome("v", "uniform", 0, 4.0),
    outcome("eps", "uniform", 1, 2.0, ((10, 5.0), (20, 4.0))),
]


def test_the_table_has_mean_and_deviation_over_seeds() -> None:
    assert [o.seed for o in group(OUTCOMES)[Choice("eps", "elbo", "uniform")]] == [0, 1]
    assert statistics([1.0, 2.0]) == (1.5, np.sqrt(0.5))
    table = markdown(OUTCOMES, METRICS, {"mmd": 0.0005}).splitlines()
    assert table[0] == "| test bound, bits/dim | eps | v |"
    assert table[2] == "| elbo | 1.500 ± 0.707 | 4.000 ± nan |"
    assert "| 1000 MMD² of samples (noise floor 0.50) | eps | v |" in table
    assert "| elbo | 1.50 ± 0.71 | 4.00 ± nan |" in table
    assert "| elbo | 3.00 ± 1.41 | 8.00 ± nan |" in table


def test_rows_name_the_proposal_where_there_are_several_and_missing_cells_are_empty() -> None:
    table = markdown([*OUTCOMES, outcome("v", "adaptive", 0, 3.0)], {}, {}).splitlines()
    assert table[2] == "| elbo, uniform | 1.500 ± 0.707 | 4.000 ± nan |"
    assert table[3] == "| elbo, adaptive |  | 3.000 ± nan |"


def test_steps_to_reach_is_straight_between_points() -> None:
    curve = [(10, 3.0), (20, 2.0), (30, 2.5), (40, 1.0)]
    assert steps_to_reach(curve, 2.5) == 15
    assert steps_to_reach(curve, 1.75) == 35
    assert steps_to_reach(curve, 3.5) == 10
    assert steps_to_reach(curve, 0.5) == np.inf


def test_ratios_are_of_the_seeds_and_steps_that_both_have() -> None:
    """Uniform seed 1 has no partner; its curve has a step more than adaptive's."""
    base = [outcome("eps", "uniform", 0, 1.0, ((10, 3.0), (15, 9.0), (20, 2.0))), outcome("eps", "uniform", 1, 1.0)]
    own = outcome("eps", "adaptive", 0, 1.0, ((10, 2.5), (20, 1.5)))
    assert speed_ups([*base, own]) == {Choice("eps", "elbo", "adaptive"): 0.75}
    assert speed_ups([*base, outcome("eps", "adaptive", 0, 1.0, ())]) == {}
    assert speed_ups([*base, outcome("eps", "adaptive", 2, 1.0)]) == {}


def test_ratios_are_of_mean_curves_to_the_first_proposals_end() -> None:
    """Uniform ends at (2 + 4)/2 = 3 after 20 steps; adaptive goes from 4 at 10 to 2 at 20: 3 at 15."""
    faster = [outcome("eps", "adaptive", seed, 1.0, ((10, 3.0 + 2 * seed), (20, 2.0))) for seed in (0, 1)]
    assert speed_ups([*OUTCOMES, *faster]) == {Choice("eps", "elbo", "adaptive"): 0.75}
