"""Tables of samplers: paired differences, the calls that are needed, what is not measured."""

import numpy as np

from vdm.comparisons.sampler_tables import (
    SamplerOutcome,
    by_sampler,
    calls_markdown,
    calls_needed,
    excess,
    noises_markdown,
)

NUM = 101
SHAPE = np.linspace(-1, 1, NUM)
UNIT = np.sqrt((NUM - 1) / NUM * np.sum(SHAPE**2))
"""Jackknife standard error of `SHAPE`."""


def outcome(sampler: str, steps: int, mmd: float, stderr: float = 1.0, calls: int = 0, shape=SHAPE) -> SamplerOutcome:
    return SamplerOutcome(sampler, steps, calls or steps, mmd, mmd + stderr * shape / UNIT)


REFERENCE = outcome("ancestral", 1000, 5.0, stderr=1.0)


def test_errors_are_over_images_and_paired() -> None:
    np.testing.assert_allclose(outcome("heun", 5, 3.0, 0.7).stderr, 0.7, rtol=1e-12)
    # What both owe to the same images cancels.
    np.testing.assert_allclose(excess(outcome("heun", 5, 8.0, 1.5), REFERENCE), (3.0, 0.5), rtol=1e-10)
    apart = outcome("heun", 5, 8.0, 1.5, shape=-SHAPE)
    np.testing.assert_allclose(excess(apart, REFERENCE), (3.0, 2.5), rtol=1e-10)


def test_needed_is_the_first_that_is_as_good_and_stays_so() -> None:
    def series(*excesses: float) -> list[SamplerOutcome]:
        # Standard error 0.5 of the difference.
        return [outcome("heun", 10 * 2**i, 5.0 + e, 1.5) for i, e in enumerate(excesses)]

    assert calls_needed(series(3.0, 1.01, 0.99, -2.0), REFERENCE) == 40
    assert calls_needed(series(0.9, 1.1, 0.9), REFERENCE) == 40
    assert calls_needed(series(-1.0, 0.0, 1.0 - 1e-9), REFERENCE) == 10
    assert calls_needed(series(0.0, 0.0, 1.1), REFERENCE) is None
    assert calls_needed(series(3.0, 0.99, 2.0, 0.5)[::-1], REFERENCE) == 80
    assert calls_needed([], REFERENCE) is None
    assert calls_needed([REFERENCE], REFERENCE) == 1000


def test_groups_keep_their_order_and_sort_their_calls() -> None:
    many = [outcome("b", 2, 0.0), outcome("a", 1, 0.0), outcome("b", 1, 0.0)]
    assert [(name, [o.calls for o in group]) for name, group in by_sampler(many).items()] == [("b", [1, 2]), ("a", [1])]


def test_the_table_by_noise() -> None:
    found = [outcome("ddim(0)", 10, 0.0125, 0.0005), outcome("ddpm(large)", 20, 0.5, 0.02), REFERENCE]
    assert noises_markdown(found, ("ddim(0)", "ddpm(large)"), (10, 20), 0.002).splitlines() == [
        "| 1000 MMD² (noise floor 2.00) | 10 steps | 20 steps |",
        "|---|---|---|",
        "| ddim(0) | 12.50 ± 0.50 |  |",
        "| ddpm(large) |  | 500.00 ± 20.00 |",
    ]


def test_the_table_by_calls() -> None:
    """A sampler of two calls takes half the steps; without the reference there is no last column."""
    found = [
        outcome("heun", 2, 9.0, 0.5, calls=4),
        outcome("heun", 5, 5.0, 0.5, calls=10),
        outcome("ddim(0)", 5, 9.0, 0.5),
        outcome("ddim(0)", 10, 8.0, 0.5),
    ]
    arguments = ("heun", "ddim(0)", "ancestral"), (5, 10, 1000), {"heun": 2, "ddim(0)": 1, "ancestral": 1}
    table = calls_markdown([*found, REFERENCE], *arguments, REFERENCE, 0.0).splitlines()
    assert table == [
        "| 1000 MMD² (noise floor 0.00) | 5 calls | 10 calls | 1000 calls | calls to ancestral at 1000 |",
        "|---|---|---|---|---|",
        "| heun | 9000.00 ± 500.00 | 5000.00 ± 500.00 |  | 10 |",
        "| ddim(0) | 9000.00 ± 500.00 | 8000.00 ± 500.00 |  | > 10 |",
        "| ancestral |  |  | 5000.00 ± 1000.00 | 1000 |",
    ]
    assert calls_markdown(found, *arguments, None, 0.0).splitlines()[2] == (
        "| heun | 9000.00 ± 500.00 | 5000.00 ± 500.00 |  |"
    )
