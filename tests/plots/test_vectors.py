"""Vectors as points: where they are drawn, whose colour they have, and which picture samples get."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vdm.data import Arrays
from vdm.plots import reconstructions, samples, vectors

RNG = np.random.default_rng(0)
DATA = RNG.uniform(-1, 1, (40, 2)).astype(np.float32)
DRAWN = RNG.uniform(-1, 1, (30, 2)).astype(np.float32)


@pytest.fixture
def figures(monkeypatch):
    """Those that are written."""
    made, savefig = [], Figure.savefig

    def keep(self, file, **kwargs):
        made.append(self)
        savefig(self, file, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return made


def test_samples_stand_beside_the_data_with_the_same_axes(figures, tmp_path):
    vectors.scatter(DRAWN, tmp_path / "a" / "b.png", DATA, "a caption", ("one", "two"))
    (figure,) = figures
    left, right = figure.axes
    np.testing.assert_array_equal(left.collections[0].get_offsets(), DATA)
    for k, (name, collection) in enumerate(zip(("one", "two"), right.collections, strict=True)):
        assert collection.get_label() == name
        np.testing.assert_array_equal(collection.get_offsets(), DRAWN[k::2])
    assert left.get_xlim() == right.get_xlim()
    assert figure.get_suptitle() == "a caption"
    assert Image.open(tmp_path / "a" / "b.png").size[0] > 300


def test_reconstructions_stand_right_of_the_data_as_samples_do(figures, tmp_path):
    reconstructions.reconstructions(DATA[:30], DRAWN, tmp_path / "again.png", "a caption")
    assert [panel.get_title() for panel in figures[0].axes] == ["test data", "reconstructions"]
    np.testing.assert_array_equal(figures[0].axes[1].collections[0].get_offsets(), DRAWN)


def test_a_strip_ends_with_the_data(figures, tmp_path):
    frames = np.stack([DRAWN * scale for scale in (3, 2, 1)])
    vectors.strip(frames, tmp_path / "strip.png", DATA, columns=("a", "b", "c"))
    panels = figures[0].axes
    assert [panel.get_title() for panel in panels] == ["a", "b", "c", "test data"]
    np.testing.assert_array_equal(panels[1].collections[0].get_offsets(), DRAWN * 2)
    vectors.strip(np.stack([DRAWN] * 25), tmp_path / "strip.png", DATA)
    assert len(figures[1].axes) == vectors.MOST_PANELS + 1


def test_samples_are_drawn_by_what_they_are(figures, tmp_path):
    def data():
        return Arrays({"image": DATA})

    samples.samples(DRAWN, tmp_path / "vectors.png", 0, data)
    assert [path.name for path in samples.trajectory(DRAWN[None], tmp_path / "way", data)] == ["way.png"]
    assert len(figures) == 2

    def no_data():
        raise AssertionError

    images = RNG.uniform(-1, 1, (4, 3, 3, 1))
    samples.samples(np.rint(8 * (images + 1)).astype(np.uint8), tmp_path / "integers.png", 17, no_data)
    samples.samples(np.rint(8 * (images + 1)) / 8 - 1, tmp_path / "real.png", 0, no_data)
    way = samples.trajectory(np.stack([images, images / 2]), tmp_path / "images", no_data)
    assert [path.name for path in way] == ["images.png", "images.gif"]
    assert len(figures) == 2
    # −1 … 1 is black to white, as 0 … 16 of 17 levels.
    one, other = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("integers", "real"))
    np.testing.assert_array_equal(one, other)


def test_there_must_be_some(tmp_path):
    with pytest.raises(ValueError, match=r"vectors has shape \(0, 2\)"):
        vectors.scatter(DRAWN[:0], tmp_path / "no.png", DATA)
    with pytest.raises(ValueError, match=r"data has shape \(0, 2\)"):
        vectors.strip(DRAWN[None], tmp_path / "no.png", DATA[:0])
    assert not list(tmp_path.iterdir())
