"""The confusion of classes as a picture."""

import numpy as np
import pytest

from plots.picture import assert_is_picture
from vdm import plots


@pytest.mark.parametrize("num", [2, 10, 60])
def test_counts_become_a_picture(tmp_path, num):
    counts = 3 * np.eye(num, dtype=int) + (np.arange(num**2).reshape(num, num) % 7 == 0)
    plots.confusion(tmp_path / "new" / "confusion.png", counts, [f"class {k}" for k in range(num)])
    assert_is_picture(tmp_path / "new" / "confusion.png")


def test_squares_are_shares_of_the_labels_images(tmp_path, drawn):
    """A class without images has none; counts stand where label (down) and answer (across) meet."""
    counts = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    axes = drawn(plots.confusion, tmp_path, counts, "abc")[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0], [0, 0.5, 0.5]])
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert written == {((0, 0), "3"), ((1, 0), "1"), ((1, 2), "2"), ((2, 2), "2")}
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("label", "answer")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list("abc")
