"""The figure of compare.py --by=family, of outcomes that are made up."""

from pathlib import Path

from families import METRICS, outcomes
from plots.picture import assert_is_picture

from vdm.comparisons.families.plot import plot


def test_the_figure_shows_every_member(tmp_path: Path, drawn) -> None:
    bound, samples, hole = drawn(plot, tmp_path, METRICS, outcomes())
    assert [label.get_text() for label in bound.get_yticklabels()] == [
        "VAE, T = 1",
        "HVAE, bottom-up, T = 2",
        "VDM, T = ∞",
    ]
    # Each bar ends at the mean of the bound, or where its terms do.
    ends: dict[int, float] = {}
    for patch in bound.patches:
        row = round(patch.get_y() + patch.get_height() / 2)
        ends[row] = max(ends.get(row, 0.0), float(patch.get_x() + patch.get_width()))
    assert ends == {0: 1.25, 1: 1.5, 2: 2.5}
    # Of the aggregate posterior, a VDM has none.
    assert len(samples.containers) == 3 + 2
    assert len(hole.containers) == 3
    assert_is_picture(tmp_path / "plot.png")
