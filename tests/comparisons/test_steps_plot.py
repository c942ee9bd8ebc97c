"""The figure of the comparison by steps; that it reads well is for a person to see."""

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from plots.picture import assert_is_picture

from vdm.comparisons.steps.plot import plot
from vdm.comparisons.steps.table import Mean, Row
from vdm.plots.axes import BLUE, RED

BEST = 2.0


def row(trained, evaluated, bits_per_dim, gain=None, seeds=3):
    """Errors of 0.01 over seeds, or over images of a single one; 0.1 where they are not to be drawn."""

    def mean(value):
        return Mean(value, 0.01, 0.1) if seeds > 1 else Mean(value, None, 0.01)

    by_seed = dict.fromkeys(range(seeds), bits_per_dim)
    over = f"{seeds} seeds" if seeds > 1 else "images"
    gain = None if gain is None else mean(gain)
    return Row(
        trained, evaluated, mean(bits_per_dim), mean(bits_per_dim - BEST), None, gain, by_seed, 1, False, "", over
    )


def points(line):
    """[(x, y), …] of a line."""
    return [tuple(point) for point in zip(*line.get_data(), strict=True)]


def series(axes):
    """Points by colour of the lines with error bars, several in a list."""
    found = {}
    for bars in bars_of(axes):
        found.setdefault(bars.lines[0].get_color(), []).append(points(bars.lines[0]))
    return found


def bars_of(axes):
    return [c for c in axes.containers if isinstance(c, ErrorbarContainer)]


def labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels(which="both")]


def test_both_series_are_drawn_with_their_excess_and_the_gain(tmp_path, drawn):
    infinity = row(None, None, BEST)
    own = [row(10, 10, 4.0, gain=3.0), row(100, 100, 1.5, gain=-0.005), infinity]
    left, middle, right = drawn(plot, tmp_path, own, [row(None, 10, 7.0), row(None, 100, 2.5), infinity])
    assert labels(left.xaxis) == ["10", "100", "∞"]
    # Strokes through the axis before ∞, each series once in the legend, and log axes that say so.
    assert sum(set(line.get_xdata()) == {left.get_xticks()[-1] / 2} for line in left.lines) == 2
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "trained at ∞, evaluated at T",
        "trained and evaluated at T",
    ]
    assert (left.get_xlabel(), left.get_ylabel()) == ("number of time steps T (log scale)", "bits/dim")
    assert middle.get_ylabel() == "excess in bits/dim (log scale)"
    assert labels(middle.xaxis) == labels(right.xaxis) == ["10", "100"]
    end = left.get_xticks()[-1]
    assert end > 100
    # ∞ is a point of its own: no line goes to it.
    assert series(left) == {BLUE: [[(10, 7), (100, 2.5)], [(end, 2)]], RED: [[(10, 4), (100, 1.5)], [(end, 2)]]}
    assert series(middle) == {BLUE: [[(10, 5), (100, 0.5)]], RED: [[(10, 2)]]}
    under = [line for line in middle.lines if line.get_marker() == "v"]
    assert [list(line.get_xdata()) for line in under] == [[100]]
    guide = next(line for line in middle.lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(points(guide), [(10, 5), (100, 0.5)])
    low, high = middle.get_ylim()
    assert low < 0.5
    assert high > 5
    assert series(right) == {RED: [[(10, 3), (100, -0.005)]]}
    # 0.01 to either side is more than the gain at 100: the bar crosses the line at 0.
    for axes in (left, middle, right):
        for bars in bars_of(axes):
            for low, high in (segment[:, 1] for segment in bars.lines[2][0].get_segments()):
                np.testing.assert_allclose(high - low, 0.02)
    assert right.get_ylim()[0] < -0.015
    assert "3 seeds" in left.get_title()


def test_of_one_seed_errors_are_over_images(tmp_path, drawn):
    infinity = row(None, None, BEST, seeds=1)
    panels = drawn(plot, tmp_path, [infinity], [infinity])
    assert len(panels) == 2
    assert "over images" in panels[0].get_title()


@pytest.mark.parametrize("gain", [None, 0.5])
def test_it_becomes_a_picture(tmp_path, gain):
    path = tmp_path / "new" / "comparison.png"
    infinity = row(None, None, BEST)
    plot(path, [row(10, 10, 3.0, gain), infinity], [row(None, 10, 3.5), infinity])
    assert_is_picture(path)
