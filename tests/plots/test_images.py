"""Grids, strips and animations, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from vdm.plots import images as pictures
from vdm.plots.images import GUTTER, GUTTER_VALUE


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def cells(picture, rows, columns):
    """The images of a picture, row by row, after a check that all between them is gutter."""
    height, width = ((side - GUTTER) // n - GUTTER for side, n in zip(picture.shape, (rows, columns), strict=False))
    assert picture.shape[:2] == (rows * (height + GUTTER) + GUTTER, columns * (width + GUTTER) + GUTTER)
    is_gutter = np.ones(picture.shape[:2], bool)
    found = []
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + GUTTER) + GUTTER, column * (width + GUTTER) + GUTTER
            window = slice(top, top + height), slice(left, left + width)
            is_gutter[window] = False
            found.append(picture[window])
    assert np.all(picture[is_gutter] == GUTTER_VALUE)
    return found


def test_grid_of_greys_is_scaled_from_its_levels_and_enlarged(tmp_path):
    images = np.random.default_rng(0).integers(0, 17, (5, 8, 6, 1))
    images[0, 0, :3, 0] = 0, 8, 16
    pictures.grid(images, tmp_path / "samples" / "grid.png", levels=17)
    picture = read(tmp_path / "samples" / "grid.png")
    assert picture.ndim == 2
    found = cells(picture, rows=2, columns=3)
    scale = found[0].shape[0] // 8
    # The shorter side of the images' area, 2·8 by 3·6 pixels, decides.
    assert scale == 32
    expected = np.rint(images[..., 0] * (255 / 16)).astype(np.uint8)
    for cell, image in zip(found, expected, strict=False):
        np.testing.assert_array_equal(cell, np.kron(image, np.ones((scale, scale), np.uint8)))
    assert found[0][0, 0] == 0
    assert found[0][0, scale] == 128
    assert found[0][0, 2 * scale] == 255
    assert np.all(found[5] == GUTTER_VALUE)


def test_grid_of_large_eight_bit_colours_is_exact(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 256, 300, 3)).astype(np.uint8)
    pictures.grid(images, tmp_path / "grid.png", levels=256)
    np.testing.assert_array_equal(np.stack(cells(read(tmp_path / "grid.png"), 2, 2)), images)


@pytest.mark.parametrize(("channels", "drawn"), [(1, 1), (2, 1), (3, 3), (5, 3)])
def test_channels(channels, drawn):
    images = np.random.default_rng(0).integers(0, 256, (1, 600, 600, channels)).astype(np.uint8)
    picture = pictures.tile(images, columns=1)
    np.testing.assert_array_equal(picture[GUTTER:-GUTTER, GUTTER:-GUTTER], images[0, ..., :drawn])


def test_strip_has_a_row_an_image_and_a_column_a_time(tmp_path):
    frames = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2, 1, 1, 1) * np.ones((1, 1, 4, 4, 1), np.float32)
    pictures.strip(frames, tmp_path / "strip.png")
    found = cells(read(tmp_path / "strip.png"), rows=2, columns=3)
    assert [int(cell[0, 0]) for cell in found] == [0, 102, 204, 51, 153, 255]
    assert all(np.ptp(cell) == 0 for cell in found)


def test_values_beyond_one_are_clipped(tmp_path):
    frames = np.full((1, 2, 4, 4, 1), 1.5, np.float32) * np.array([-1, 1], np.float32).reshape(1, 2, 1, 1, 1)
    pictures.strip(frames, tmp_path / "strip.png")
    assert [int(cell[0, 0]) for cell in cells(read(tmp_path / "strip.png"), 2, 1)] == [0, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_animation_shows_every_time_and_holds_the_last(tmp_path, channels):
    frames = np.random.default_rng(0).uniform(-1, 1, (6, 5, 8, 8, channels)).astype(np.float32)
    pictures.animation(frames, tmp_path / "trajectory.gif")
    with Image.open(tmp_path / "trajectory.gif") as gif:
        assert gif.format == "GIF"
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0
        durations = []
        for i in range(gif.n_frames):
            gif.seek(i)
            gif.load()
            durations.append(gif.info["duration"])
    assert durations == [pictures.FRAME_MILLISECONDS] * 5 + [pictures.LAST_FRAME_MILLISECONDS]


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (2, 0, 8, 1), (2, 8, 8, 0)])
def test_no_images_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="images has shape"):
        pictures.grid(np.zeros(shape, int), tmp_path / "grid.png", 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("values", [(-1, 3), (0, 4)])
def test_values_outside_the_levels_are_refused(tmp_path, values):
    images = np.array(values).reshape(2, 1, 1, 1)
    with pytest.raises(ValueError, match="must be from 0 to 3"):
        pictures.grid(images, tmp_path / "grid.png", levels=4)
