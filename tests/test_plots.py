"""Plots are pictures in files; that they read well is for a person to see."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

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


def assert_is_picture(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


@pytest.mark.parametrize("plot", [plots.loss, plots.terms])
@pytest.mark.parametrize("run", [records(), records(evaluations=()), records(num=1), []])
def test_records_become_a_picture(tmp_path, plot, run):
    plot(tmp_path / "plots" / "plot.png", run)
    assert_is_picture(tmp_path / "plots" / "plot.png")


def test_schedule_becomes_a_picture(tmp_path):
    t = np.linspace(0, 1, 21, dtype=np.float32)
    plots.schedule(tmp_path / "schedule.png", t, -7.5 + 12.5 * t**2)
    assert_is_picture(tmp_path / "schedule.png")


def test_the_first_steps_do_not_flatten_the_rest(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    plots.loss(tmp_path / "loss.png", records())
    low, high = figures[0].axes[0].get_ylim()
    assert 1.9 < low < 2.101 < high < 3
