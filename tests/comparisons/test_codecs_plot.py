"""The figure of codecs; that it reads well is for a person to see."""

import numpy as np
import pytest
from plots.picture import assert_is_picture

from comparisons.test_codecs_table import HUNDRED, OUTCOMES, TEN
from vdm.comparisons.codecs.plot import plot


@pytest.mark.filterwarnings("error")
def test_rates_are_drawn_by_steps_and_coders_are_lines(tmp_path, drawn) -> None:
    left, right = drawn(plot, tmp_path, [TEN, HUNDRED], OUTCOMES)
    assert_is_picture(tmp_path / "plot.png")
    assert left.get_xlabel() == "T (log scale)"
    lines = {line.get_label(): line for line in left.lines}
    np.testing.assert_array_equal(lines["net rate"].get_xydata(), [[10, 2.4987], [100, 1.905]])
    np.testing.assert_array_equal(lines["gross rate, one file"].get_ydata(), [3.5, 2.8])
    (bound,) = left.containers
    assert bound.get_label() == "bound"
    np.testing.assert_array_equal(bound.lines[0].get_ydata(), [2.5, 1.9])
    levels = {label: line.get_ydata()[0] for label, line in lines.items() if label.split(" (")[0] in ("JPEG XL", "PNG")}
    assert levels == {"JPEG XL (3.12)": 3.125, "PNG (4.00)": 4.0}
    assert not any(label.startswith("FLIF") for label in lines)
    (above,) = right.containers
    np.testing.assert_allclose(np.array(above.lines[0].get_ydata(), float), [-0.0013, 0.005], atol=1e-12)
