"""Rows and table of a comparison."""

from dataclasses import replace

import numpy as np

from vdm.comparisons.steps.table import Measurement, markdown, rows

RNG = np.random.default_rng(0)
BASE = RNG.normal(2.0, 0.3, size=100)


def measurement(trained: int | None, evaluated: int | None, excess: float, draws: int = 50) -> Measurement:
    return Measurement(trained, evaluated, BASE + excess + 0.01 * RNG.normal(size=100), draws, evaluated == 10, "abc")


REFERENCE = Measurement(None, None, BASE, 50, False, "abc")
MEASUREMENTS = [
    measurement(None, 100, 0.1),
    REFERENCE,
    measurement(10, 10, 0.8),
    measurement(None, 10, 1.5),
    measurement(100, 100, 0.05),
]


def test_rows_are_ordered_and_end_with_infinity() -> None:
    own, infinite = rows(MEASUREMENTS)
    assert [(r.trained, r.evaluated) for r in own] == [(10, 10), (100, 100), (None, None)]
    assert [(r.trained, r.evaluated) for r in infinite] == [(None, 10), (None, 100), (None, None)]
    assert [r.exact_sum for r in infinite] == [True, False, False]


def test_errors_of_differences_are_paired() -> None:
    """Images differ by 0.3, their differences by 0.01: the excess is known thirty times better than the bound."""
    own, infinite = rows(MEASUREMENTS)
    for row in (own[0], infinite[0]):
        np.testing.assert_allclose(row.stderr, 0.03, rtol=0.3)
        np.testing.assert_allclose(row.excess_stderr, 0.001, rtol=0.3)
    np.testing.assert_allclose([r.excess for r in infinite], [1.5, 0.1, 0.0], atol=0.005)
    assert infinite[-1].excess_stderr == 0
    assert infinite[0].drop is None
    np.testing.assert_allclose([r.drop for r in infinite[1:]], [1.4, 0.1], atol=0.01)
    difference = MEASUREMENTS[3].bits - MEASUREMENTS[0].bits
    np.testing.assert_allclose(infinite[1].drop_stderr, difference.std(ddof=1) / 10)


def test_errors_are_by_group_where_images_have_groups() -> None:
    """And the table says so; of one group there is none."""
    groups = np.repeat(np.arange(4), 25)
    own, infinite = rows([replace(m, groups=groups) for m in MEASUREMENTS])
    sums = (BASE - BASE.mean()).reshape(4, 25).sum(axis=1)
    np.testing.assert_allclose(infinite[-1].stderr, np.sqrt(4 / 3 * np.sum(sums**2)) / 100)
    assert own[0].stderr_over == "groups (4)"
    assert markdown(own, infinite).endswith("± over groups (4)")
    own, infinite = rows([replace(m, groups=0 * groups) for m in MEASUREMENTS])
    assert infinite[-1].stderr is None
    assert "±" not in markdown(own, infinite).replace("± over groups (1)", "")


def test_table_has_a_column_for_each_number_of_steps_and_blanks_where_nothing_was_measured() -> None:
    lines = markdown(*rows([*MEASUREMENTS, measurement(None, 1000, 0.01)])).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(line) == 5 for line in cells)
    assert cells[0] == ["T", "10", "100", "1000", "∞"]
    assert cells[2][3] == ""
    assert cells[2][4] == cells[3][4] == f"{BASE.mean():.3f} ± {BASE.std(ddof=1) / 10:.3f}"
