"""Rows and table of a comparison."""

from dataclasses import replace

import numpy as np

from vdm.comparisons.steps.table import Measurement, markdown, mean_of, rows

RNG = np.random.default_rng(0)
NUM = 100
BASE = RNG.normal(2.0, 0.3, size=NUM)
# What each seed's runs have in common, and no two seeds.
OF_SEED = (-0.05, 0.0, 0.05)


def measured(trained: int | None, evaluated: int | None, excess: float, seeds: int = 1) -> list[Measurement]:
    """Runs whose images differ by 0.3, seeds by 0.05, and both by 0.01 alone once differences are taken."""
    shifts = OF_SEED[:seeds] if seeds > 1 else (0.0,)
    return [
        Measurement(
            trained, evaluated, s, BASE + excess + shift + 0.01 * RNG.normal(size=NUM), 50, evaluated == 10, "a"
        )
        for s, shift in enumerate(shifts)
    ]


def several(seeds: int) -> list[Measurement]:
    """At ∞: 2; trained at T: above it by 0.8 at 10, 0.05 at 100; trained at ∞: by 1.5 and 0.1."""
    numbers = [(None, 100, 0.1), (None, None, 0.0), (10, 10, 0.8), (None, 10, 1.5), (100, 100, 0.05)]
    return [m for trained, evaluated, excess in numbers for m in measured(trained, evaluated, excess, seeds)]


def test_rows_are_ordered_and_end_with_infinity() -> None:
    own, infinite = rows(several(1))
    assert [(r.trained, r.evaluated) for r in own] == [(10, 10), (100, 100), (None, None)]
    assert [(r.trained, r.evaluated) for r in infinite] == [(None, 10), (None, 100), (None, None)]
    assert [r.exact_sum for r in infinite] == [True, False, False]


def test_both_errors_of_a_mean() -> None:
    """[[1, 2], [3, 6]]: runs 1.5 and 4.5, images 2 and 4; the error of a mean of two is half their distance."""
    both = mean_of(np.array([[1.0, 2.0], [3.0, 6.0]]))
    np.testing.assert_allclose((both.value, both.over_seeds, both.over_images), (3.0, 1.5, 1.0))
    assert both.stderr == both.over_seeds
    one = mean_of(np.array([[1.0, 2.0]]))
    assert (one.over_seeds, one.over_images, one.stderr) == (None, 0.5, 0.5)


def test_errors_of_differences_are_paired_over_images() -> None:
    """Images differ by 0.3, their differences by 0.01 √2: the excess is known twenty times better than the bound."""
    own, infinite = rows(several(1))
    for row in (own[0], infinite[0]):
        np.testing.assert_allclose(row.bits_per_dim.stderr, 0.03, rtol=0.3)
        np.testing.assert_allclose(row.excess.stderr, 0.0014, rtol=0.3)
    np.testing.assert_allclose([r.excess.value for r in infinite], [1.5, 0.1, 0.0], atol=0.007)
    assert infinite[-1].excess.stderr == 0
    assert infinite[0].drop is None
    np.testing.assert_allclose([r.drop.value for r in infinite[1:]], [1.4, 0.1], atol=0.01)


def test_errors_of_differences_are_paired_over_seeds() -> None:
    """Seeds differ by 0.05, so a bound by 0.05/√3; what they have in common is not in the differences."""
    own, infinite = rows(several(3))
    assert list(own[0].by_seed) == [0, 1, 2]
    np.testing.assert_allclose(list(own[0].by_seed.values()), BASE.mean() + 0.8 + np.array(OF_SEED), atol=0.005)
    np.testing.assert_allclose(own[0].bits_per_dim.over_seeds, 0.05 / np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(own[0].bits_per_dim.over_images, 0.03, rtol=0.3)
    for difference in (own[0].excess, own[0].gain, infinite[1].drop):
        assert difference.over_seeds < 0.005
    assert own[0].excess.stderr == own[0].excess.over_seeds


def test_errors_over_images_are_by_group_where_they_have_groups() -> None:
    """And of one seed the table says so; of one group there is none."""
    groups = np.repeat(np.arange(4), 25)
    measurements = several(1)
    own, infinite = rows([replace(m, groups=groups) for m in measurements])
    bits = next(m.bits for m in measurements if (m.trained, m.evaluated) == (None, None))
    sums = (bits - bits.mean()).reshape(4, 25).sum(axis=1)
    np.testing.assert_allclose(infinite[-1].bits_per_dim.stderr, np.sqrt(4 / 3 * np.sum(sums**2)) / 100)
    assert own[0].stderr_over == "groups (4)"
    assert markdown(own, infinite).startswith("| T (± over groups (4)) |")
    own, infinite = rows([replace(m, groups=0 * groups) for m in several(1)])
    assert infinite[-1].bits_per_dim.stderr is None
    assert "±" not in markdown(own, infinite).replace("± over groups (1)", "")
    own, infinite = rows([replace(m, groups=groups) for m in several(2)])
    assert own[0].stderr_over == "2 seeds"


def test_the_gain_is_of_models_trained_at_t_over_those_trained_at_infinity_at_the_same_t() -> None:
    own, infinite = rows([*several(2), *measured(1000, 1000, 0.02, seeds=2)])
    np.testing.assert_allclose([r.gain.value for r in own[:2]], [0.7, 0.05], atol=0.005)
    # Trained at ∞ was not evaluated at 1000; and has no gain over itself.
    assert own[2].gain is None
    assert own[3].gain is None
    assert all(r.gain is None for r in infinite)


def test_table_has_a_column_for_each_number_of_steps_and_blanks_where_nothing_was_measured() -> None:
    own, infinite = rows([*several(1), *measured(None, 1000, 0.01)])
    lines = markdown(own, infinite).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(line) == 5 for line in cells)
    assert cells[0] == ["T (± over images)", "10", "100", "1000", "∞"]
    assert cells[2][3] == ""
    value = infinite[-1].bits_per_dim
    assert cells[2][4] == cells[3][4] == f"{value.value:.3f} ± {value.over_images:.3f}"
    assert cells[-1][1] == f"{own[0].gain.value:+.4f} ± {own[0].gain.stderr:.4f}"
    assert cells[-1][3:] == ["", ""]


def test_table_says_what_its_errors_are() -> None:
    own, infinite = rows(several(3))
    head, _, first, *_ = markdown(own, infinite).splitlines()
    assert head.startswith("| T (± over 3 seeds) |")
    assert f"{own[0].bits_per_dim.value:.3f} ± {own[0].bits_per_dim.over_seeds:.3f}" in first
