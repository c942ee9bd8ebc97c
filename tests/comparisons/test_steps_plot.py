"""The figure of the comparison by steps; that it reads well is for a person to see."""

import numpy as np
import pytest
from plots.picture import assert_is_picture

from vdm.comparisons.steps.plot import plot


def row(trained, evaluated, bits_per_dim, **fields):
    return {"trained": trained, "evaluated": evaluated, "bits_per_dim": bits_per_dim, "stderr": 0.01, **fields}


def points(line):
    """[(x, y), …] of a line, without its NaN."""
    return [(x, y) for x, y in zip(*line.get_data(), strict=True) if np.isfinite(y)]


def series(axes):
    """By colour, the points of each of the data lines."""
    found = {}
    for line in axes.lines:
        if line.get_marker() in ("o", "s"):
            found.setdefault(line.get_color(), []).append(points(line))
    return found


def labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels(which="both")]


def test_both_series_are_drawn_and_their_excess(tmp_path, drawn):
    rows = [
        row(None, 100, 2.5, excess_stderr=0.1),
        row(None, 10, 7.0, excess_stderr=None),
        row(None, None, 2.0),
        row(10, 10, 4.0),
        row(100, 100, 1.5),
        row(10, 100, 50.0),  # of neither series
    ]
    left, right = drawn(plot, tmp_path, rows)
    assert labels(left.xaxis) == ["10", "100", "∞"]
    assert labels(right.xaxis) == ["10", "100"]
    infinity = left.get_xticks()[-1]
    assert infinity > 100
    assert series(left) == {
        "tab:blue": [[(10, 7), (100, 2.5)], [(infinity, 2)]],
        "tab:red": [[(10, 4), (100, 1.5)], [(infinity, 2)]],
    }
    assert series(right) == {"tab:blue": [[(10, 5), (100, 0.5)]], "tab:red": [[(10, 2)]]}
    # A break in the axis before ∞, where no line goes over; each series is once in the legend.
    assert {line.get_xdata()[0] for line in left.lines if line.get_xdata()[0] not in (10, infinity)} == {infinity / 2}
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "trained at ∞, evaluated at T",
        "trained and evaluated at T",
    ]
    assert (left.get_xlabel(), left.get_ylabel()) == ("number of time steps T (log scale)", "bits/dim")
    assert right.get_ylabel() == "excess in bits/dim (log scale)"
    under = [line for line in right.lines if line.get_marker() == "v"]
    assert [list(line.get_xdata()) for line in under] == [[100]]
    guide = next(line for line in right.lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(points(guide), [(10, 5), (100, 0.5)])
    low, high = right.get_ylim()
    assert low < 0.5
    assert high > 5


@pytest.mark.parametrize("rows", [[], [row(None, None, 2.0)], [row(None, 8, 2.0), row(8, 8, 2.0)]])
def test_few_rows(tmp_path, drawn, rows):
    panels = drawn(plot, tmp_path, rows)
    has_infinity = any(row["evaluated"] is None for row in rows)
    has_steps = any(row["evaluated"] is not None for row in rows)
    assert len(panels) == 1 + (has_infinity and has_steps)
    assert ("∞" in labels(panels[0].xaxis)) == has_infinity


def test_it_becomes_a_picture(tmp_path):
    path = tmp_path / "new" / "comparison.png"
    plot(path, [row(None, 10, 3.0), row(None, None, 2.0)])
    assert_is_picture(path)
