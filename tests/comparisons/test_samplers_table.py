"""Tables of samplers: paired differences, the calls that are needed, what is not measured."""

import numpy as np

from vdm.comparisons.samplers.table import Measured, SamplerOutcome, by_sampler, calls_markdown, noises_markdown
from vdm.evaluation.metrics import Estimate
from vdm.evaluation.metrics.mmd import mmd

NUM = 101
SHAPE = np.linspace(-1, 1, NUM)
UNIT = np.sqrt((NUM - 1) / NUM * np.sum(SHAPE**2))
"""Jackknife standard error of `SHAPE`."""


def outcome(sampler: str, steps: int, value: float, stderr: float = 1.0, calls: int = 0, shape=SHAPE) -> SamplerOutcome:
    return SamplerOutcome(sampler, steps, calls or steps, Estimate(value, value + stderr * shape / UNIT))


METRIC = mmd()
REFERENCE = outcome("ancestral", 1000, 5.0, stderr=1.0)


def measured(outcomes=(), reference=REFERENCE, floor=0.0, metric=METRIC) -> Measured:
    return Measured(metric, floor, outcomes, reference)


def test_errors_are_over_images_and_paired() -> None:
    np.testing.assert_allclose(outcome("heun", 5, 3.0, 0.7).estimate.stderr, 0.7, rtol=1e-12)
    # What both owe to the same images cancels.
    np.testing.assert_allclose(outcome("heun", 5, 8.0, 1.5).estimate.above(REFERENCE.estimate), (3.0, 0.5), rtol=1e-10)
    apart = outcome("heun", 5, 8.0, 1.5, shape=-SHAPE)
    np.testing.assert_allclose(apart.estimate.above(REFERENCE.estimate), (3.0, 2.5), rtol=1e-10)


def test_needed_is_the_first_that_is_as_good_and_stays_so() -> None:
    def series(*excesses: float) -> list[SamplerOutcome]:
        # Standard error 0.5 of the difference.
        return [outcome("heun", 10 * 2**i, 5.0 + e, 1.5) for i, e in enumerate(excesses)]

    needed = measured().calls_needed
    assert needed(series(3.0, 1.01, 0.99, -2.0)) == 40
    assert needed(series(0.9, 1.1, 0.9)) == 40
    assert needed(series(-1.0, 0.0, 1.0 - 1e-9)) == 10
    assert needed(series(0.0, 0.0, 1.1)) is None
    assert needed(series(3.0, 0.99, 2.0, 0.5)[::-1]) == 80
    assert needed([]) is None
    assert needed([REFERENCE]) == 1000
    assert measured(reference=None).calls_needed([REFERENCE]) is None
    # Of a score the smaller is the worse.
    score = measured(metric=METRIC._replace(lower_is_better=False))
    assert score.calls_needed(series(-3.0, -1.01, -0.99, 2.0)) == 40


def test_groups_keep_their_order_and_sort_their_calls() -> None:
    many = [outcome("b", 2, 0.0), outcome("a", 1, 0.0), outcome("b", 1, 0.0)]
    assert [(name, [o.calls for o in group]) for name, group in by_sampler(many).items()] == [("b", [1, 2]), ("a", [1])]


def test_the_table_by_noise() -> None:
    found = [outcome("ddim(0)", 10, 0.0125, 0.0005), outcome("ddpm(large)", 20, 0.5, 0.02), REFERENCE]
    assert noises_markdown(measured(found, floor=0.002), ("ddim(0)", "ddpm(large)"), (10, 20)).splitlines() == [
        "| 1000 MMD² (noise floor 2.00) | 10 steps | 20 steps |",
        "|---|---|---|",
        "| ddim(0) | 12.50 ± 0.50 |  |",
        "| ddpm(large) |  | 500.00 ± 20.00 |",
    ]


def test_the_table_by_calls() -> None:
    """A sampler of two calls takes half the steps, one not measured has no row; the last column needs the reference."""
    found = [
        outcome("heun", 2, 9.0, 0.5, calls=4),
        outcome("heun", 5, 5.0, 0.5, calls=10),
        outcome("ddim(0)", 5, 9.0, 0.5),
        outcome("ddim(0)", 10, 8.0, 0.5),
    ]
    arguments = ("heun", "ddim(0)", "unipc", "ancestral"), (5, 10, 1000)
    table = calls_markdown(measured([*found, REFERENCE]), *arguments).splitlines()
    assert table == [
        "| 1000 MMD² (noise floor 0.00) | 5 calls | 10 calls | 1000 calls | calls to ancestral at 1000 |",
        "|---|---|---|---|---|",
        "| heun | 9000.00 ± 500.00 | 5000.00 ± 500.00 |  | 10 |",
        "| ddim(0) | 9000.00 ± 500.00 | 8000.00 ± 500.00 |  | > 10 |",
        "| ancestral |  |  | 5000.00 ± 1000.00 | 1000 |",
        "",
        "Last column: the fewest calls from which on MMD² is at most 2 standard errors of the paired difference above "
        "ancestral at 1000.",
    ]
    assert calls_markdown(measured(found, None), *arguments).splitlines()[2] == (
        "| heun | 9000.00 ± 500.00 | 5000.00 ± 500.00 |  |"
    )
