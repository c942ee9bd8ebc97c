"""Plots are pictures in files; that they read well is for a person to see."""

import numpy as np
import pytest

from plots.picture import assert_is_picture
from vdm import plots


def records(num=40, evaluations=(20, 40)):
    """A run whose loss falls from 100 to 2 bits/dim."""
    result = []
    for step in range(1, num + 1):
        terms = {"reconstruction": 0.1, "prior": 0.001, "diffusion": 2 + 98 * 0.5**step}
        result.append({"kind": "train", "step": step, "bits_per_dim": sum(terms.values()), **terms})
        if step in evaluations:
            result.append(result[-1] | {"kind": "evaluation", "stderr": 0.01})
    return result


def bars(schedule, iid, stratified):
    errors = {"iid_stderr": 0.1 * iid, "stratified_stderr": 0.1 * stratified}
    return {"schedule": schedule, "iid": iid, "stratified": stratified, **errors}


def points(line):
    """[(x, y), …] of a line, without its NaN."""
    return [(x, y) for x, y in zip(*line.get_data(), strict=True) if np.isfinite(y)]


def labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels(which="both")]


@pytest.mark.parametrize("plot", [plots.loss, plots.terms, plots.variance])
@pytest.mark.parametrize("run", [records(), records(evaluations=()), records(num=1), []])
def test_records_become_a_picture(tmp_path, plot, run):
    plot(tmp_path / "plots" / "plot.png", run)
    assert_is_picture(tmp_path / "plots" / "plot.png")


def test_a_term_that_is_zero_throughout_has_no_log_axis(tmp_path, drawn):
    run = [record | {"prior": 0.0} for record in records()]
    axes = drawn(plots.terms, tmp_path, run)
    assert {a.get_title(): a.get_yscale() for a in axes} == {
        "reconstruction": "log", "prior": "linear", "diffusion": "log",
    }  # fmt: skip


def test_schedule_becomes_a_picture(tmp_path):
    t = np.linspace(0, 1, 21, dtype=np.float32)
    plots.schedule(tmp_path / "schedule.png", t, -7.5 + 12.5 * t**2)
    assert_is_picture(tmp_path / "schedule.png")


def test_the_first_steps_do_not_flatten_the_rest(tmp_path, drawn):
    (axes,) = drawn(plots.loss, tmp_path, records())
    low, high = axes.get_ylim()
    assert 1.9 < low < 2.101 < high < 3


def test_what_the_range_leaves_out_is_said(tmp_path, drawn):
    run = records()
    (axes,) = drawn(plots.loss, tmp_path, run)
    above = [r for r in run if r["bits_per_dim"] > axes.get_ylim()[1]]
    (note,) = axes.texts
    assert note.get_text() == (
        f"cut off above: {len(above)} of {len(run)} points, up to step {above[-1]['step']}, the highest 51.1 bits/dim"
    )
    (axes,) = drawn(plots.loss, tmp_path, [record | {"bits_per_dim": 2.0} for record in run])
    assert not axes.texts


def test_the_final_evaluation_is_a_point_of_its_own(tmp_path, drawn):
    run = [*records(), {"kind": "final", "step": 40, "bits_per_dim": 2.05, "stderr": 0.002}]
    (axes,) = drawn(plots.loss, tmp_path, run)
    training, final = axes.containers
    assert training.get_label() == "test while training, last 2.101 ± 0.010"
    assert final.get_label() == "final test 2.050 ± 0.002"
    assert final.lines[0].get_xydata().tolist() == [[40, 2.05]]
    # Bars whose caps stand out beside the markers.
    for container in (training, final):
        line, caps, _ = container.lines
        assert {2 * cap.get_markersize() > 1.5 * line.get_markersize() for cap in caps} == {True}


def test_log_axes_say_so(tmp_path, drawn):
    run = [record | {"variance": 0.5} for record in records()]
    for axes in drawn(plots.terms, tmp_path, run) + drawn(plots.variance, tmp_path, run):
        assert axes.get_ylabel().endswith(" (log scale)")
        assert axes.get_xlabel() == "step"


def test_times_leave_out_empty_bins(tmp_path, drawn):
    t, mean, std = np.array([0.125, 0.375, 0.625, 0.875]), np.array([1.0, np.nan, 4.0, 1.0]), np.full(4, 2.0)
    (axes,) = drawn(plots.times, tmp_path, t, mean, std, 2.0)
    curve, overall = axes.lines
    assert points(curve) == [(0.125, 1), (0.625, 4), (0.875, 1)]
    assert set(overall.get_ydata()) == {2.0}
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 0
    assert band[:, 1].max() == 6


def test_times_of_nothing_become_a_picture(tmp_path):
    empty = np.full(3, np.nan)
    plots.times(tmp_path / "times.png", np.array([0.2, 0.5, 0.8]), empty, empty, 1.0)
    assert_is_picture(tmp_path / "times.png")


def test_variance_skips_records_without_it(tmp_path, drawn):
    fields = [
        ("evaluation", 1, {}),
        ("evaluation", 2, {"variance": None}),
        ("train", 3, {"variance": 9.0}),
        ("evaluation", 4, {"variance": 0.5}),
        ("evaluation", 5, {"variance": 0.3}),
        ("final", 5, {"variance": 0.2}),
    ]
    run = [{"kind": kind, "step": step, "bits_per_dim": 2.0, **field} for kind, step, field in fields]
    (axes,) = drawn(plots.variance, tmp_path, run)
    assert points(axes.lines[0]) == [(4, 0.5), (5, 0.2)]
    assert axes.get_yscale() == "log"


def test_estimator_variance_draws_curves_and_numbered_bars(tmp_path, drawn):
    t = np.linspace(0, 1, 5)
    curves = {"learned": -10 + 15 * t, "cosine": -10 + 15 * t**2}
    table = [bars("cosine", 8.25, 0.5), bars("learned", 0.3, 0.00125)]
    left, right = drawn(plots.estimator_variance, tmp_path, table, t, curves)
    assert {line.get_label(): points(line) for line in left.lines} == {
        name: list(zip(t, gamma, strict=True)) for name, gamma in curves.items()
    }
    assert labels(right.xaxis) == ["cosine", "learned"]
    heights = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in right.patches}
    assert [heights[x] for x in sorted(heights)] == [8.25, 0.5, 0.3, 0.00125]
    assert {text.get_text() for text in right.texts} == {"8.25", "0.5", "0.3", "0.00125"}
    # A name has the colour of its curve.
    assert [tick.get_color() for tick in right.get_xticklabels()] == [
        left.lines[1].get_color(),
        left.lines[0].get_color(),
    ]


def test_new_plots_become_pictures(tmp_path):
    t = np.linspace(0, 1, 5)
    plots.estimator_variance(tmp_path / "new" / "variance.png", [bars("cosine", 2.0, 0.5)], t, {"other": -5 + 10 * t})
    plots.estimator_variance(tmp_path / "new" / "nothing.png", [], t, {})
    for path in (tmp_path / "new").iterdir():
        assert_is_picture(path)
