"""The figure of the comparison by sampler; that it reads well is for a person to see."""

import numpy as np
import pytest
from plots.picture import assert_is_picture

from vdm.comparisons.samplers.plot import plot
from vdm.comparisons.samplers.table import Measured, SamplerOutcome
from vdm.evaluation.metrics import Estimate
from vdm.evaluation.metrics.mmd import mmd


def outcome(sampler, calls, value, stderr=0.0005):
    without = value + stderr * np.array([-1.0, 0.0, 1.0]) / np.sqrt(4 / 3)
    return SamplerOutcome(sampler, calls, calls, Estimate(value, without))


@pytest.mark.filterwarnings("error")
def test_quality_is_drawn_by_calls(tmp_path, drawn):
    reference = outcome("ancestral", 1000, 0.003)
    found = [outcome("heun@karras", 10, 0.02), outcome("heun@karras", 5, 0.05), outcome("heun", 5, -0.001), reference]
    (axes,) = drawn(plot, tmp_path, [Measured(mmd(), 0.002, found, reference)])
    assert axes.get_ylabel() == "MMD² from training images (log scale)"
    assert axes.get_xlabel() == "network calls per image (log scale)"
    assert_is_picture(tmp_path / "plot.png")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = {container.get_label(): container.lines[0] for container in axes.containers}
    assert list(lines) == ["heun@karras", "heun", "ancestral"]
    np.testing.assert_array_equal(lines["heun@karras"].get_xydata(), [[5, 0.05], [10, 0.02]])
    assert lines["heun@karras"].get_color() == lines["heun"].get_color() != lines["ancestral"].get_color()
    assert lines["heun@karras"].get_linestyle() != lines["heun"].get_linestyle()
    # Below 0 there is no logarithm: a triangle.
    assert np.isnan(lines["heun"].get_ydata()).all()
    triangles = [line for line in axes.lines if line.get_marker() == "v" and line.get_linestyle() == "None"]
    assert [list(line.get_xdata()) for line in triangles] == [[5]]
    assert any(np.all(np.asarray(line.get_ydata()) == 0.003) for line in axes.lines)
    (band,) = axes.patches
    assert (band.get_y(), band.get_height()) == (0, 0.002)


@pytest.mark.filterwarnings("error")
def test_one_outcome_is_enough(tmp_path, drawn):
    drawn(plot, tmp_path, [Measured(mmd(), 0.001, [outcome("heun", 5, 0.1)], None)])
    drawn(plot, tmp_path, [Measured(mmd(), 0.001, [outcome("heun", 5, -0.1)], None)])


@pytest.mark.filterwarnings("error")
def test_a_panel_a_metric_and_a_score_on_a_plain_axis(tmp_path, drawn):
    found = [outcome("heun", 5, 0.1), outcome("heun", 10, -0.2)]
    score = mmd()._replace(title="score", unit="points", lower_is_better=False)
    above, below = drawn(plot, tmp_path, [Measured(mmd(), 0.05, found, None), Measured(score, 0.05, found, found[0])])
    assert (above.get_yscale(), below.get_yscale()) == ("log", "linear")
    assert below.get_ylabel() == "score, points"
    np.testing.assert_array_equal(below.containers[0].lines[0].get_xydata(), [[5, 0.1], [10, -0.2]])
    assert [
        line.get_ydata()[0] for line in below.lines if len(line.get_xdata()) == 2 and line.get_color() == "lightgrey"
    ] == [0.05]
