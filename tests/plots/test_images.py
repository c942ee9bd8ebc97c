"""Grids, strips and animations, pixel by pixel, and what they say of themselves."""

import itertools

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
    assert scale == 16
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


def test_rows_with_names_have_every_so_manyth_image(tmp_path):
    """Grey values tell the images apart: 0 2 4 above 1 3 and nothing."""
    images = np.arange(5).reshape(5, 1, 1, 1).repeat(8, axis=1).repeat(8, axis=2)
    pictures.grid(images, tmp_path / "rows.png", 6, rows=("even", "odd"))
    picture = read(tmp_path / "rows.png")
    left = pictures.layout((3 * 98 + 2, 2 * 98 + 2), 2, 3, rows=("even", "odd")).tiles[0]
    found = [int(cell[0, 0]) for cell in cells(picture[:, left:], 2, 3)]
    assert found == [0, 102, 204, 51, 153, GUTTER_VALUE]
    # With more rows than images none are named.
    pictures.grid(images, tmp_path / "plain.png", 6, rows=tuple("abcdef"))
    assert [int(cell[0, 0]) for cell in cells(read(tmp_path / "plain.png"), 2, 3)] == [0, 51, 102, 153, 204, 255]


def test_a_row_that_is_too_long_goes_on_below(tmp_path):
    """Of 39 images in two rows 20 and 19: two lines of ten each, of 16 at most."""
    images = np.arange(39).reshape(39, 1, 1, 1).repeat(96, axis=1).repeat(96, axis=2)
    pictures.grid(images, tmp_path / "rows.png", 256, rows=("even", "odd"))
    left = pictures.layout((10 * 98 + 2, 4 * 98 + 2), 4, 10, rows=("even", "", "odd", "")).tiles[0]
    found = [int(cell[0, 0]) for cell in cells(read(tmp_path / "rows.png")[:, left:], 4, 10)]
    assert found == [*range(0, 40, 2), *range(1, 39, 2), GUTTER_VALUE]


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


@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        ((8, 8), 12),
        ((28, 28), 4),
        ((32, 32), 3),
        ((64, 64), 2),
        ((256, 256), 1),
        ((1, 1), 96),
        ((1, 128), 3),
        ((1, 900), 1),
    ],
)
def test_tiles_are_96_pixels_or_more_but_never_immense(shape, scale):
    assert pictures.scale_of(*shape) == scale
    for num in (1, 16):
        height, width = pictures.tile(np.zeros((num, *shape, 1), np.uint8), columns=num).shape[:2]
        assert (height, width) == (scale * shape[0] + 2 * GUTTER, num * (scale * shape[1] + GUTTER) + GUTTER)


def gif(path):
    with Image.open(path) as image:
        return image.size, image.n_frames


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 128), (128, 1), (1, 1), (3, 5)])
def test_animations_of_any_shape(tmp_path, shape, channels):
    frames = np.random.default_rng(0).uniform(-1, 1, (2, 64, *shape, channels)).astype(np.float32)
    names = ["γ = 5.00", "γ = −7.50"]
    pictures.animation(frames, tmp_path / "a.gif", "digits, step 100", names, pictures.TO_DATA)
    (width, height), num = gif(tmp_path / "a.gif")
    assert num == 2
    assert max(width, height) < 1500
    assert width / height < 6
    pictures.strip(frames, tmp_path / "a.png", "digits, step 100", names, arrow=pictures.TO_DATA)


def test_more_pixels_than_a_gif_can_count_are_refused(tmp_path):
    with pytest.raises(ValueError, match="70004×5 pixels: a GIF has at most 65535"):
        pictures.animation(np.zeros((1, 1, 1, 70_000, 1), np.float32), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_of_many_frames_a_strip_shows_some_and_both_ends(tmp_path):
    frames = np.linspace(-1, 1, 1000, dtype=np.float32).reshape(1000, 1, 1, 1, 1)
    pictures.strip(frames, tmp_path / "strip.png")
    values = [int(cell[0, 0]) for cell in cells(read(tmp_path / "strip.png"), 1, pictures.MAX_COLUMNS)]
    assert (values[0], values[-1]) == (0, 255)
    assert max(np.diff(values)) - min(np.diff(values)) <= 1


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


CAPTION = (
    "a_run_with_a_rather_long_name, step 250000, seed 4294967295: dpm_solver_pp(2, True), 250 steps, clip_static\nwhat"
)


@pytest.mark.parametrize("tiles", [(98, 98), (10, 1000), (982, 786), (3000, 7)])
@pytest.mark.parametrize("num_columns", [1, 2, 10, 16])
@pytest.mark.parametrize("rows", [(), ("test image", "reconstruction")])
@pytest.mark.parametrize("caption", ["", CAPTION, "x" * 400])
def test_texts_are_on_the_picture_and_touch_nothing(tiles, num_columns, rows, caption):
    columns = [f"γ = −{i}.25" for i in range(num_columns)]
    found = pictures.layout(tiles, max(1, len(rows)), num_columns, caption, columns, rows, pictures.TO_DATA)
    left, top = found.tiles
    images = (left, top, left + tiles[0], top + tiles[1])
    # Rows thinner than a line of text have no room for names beside them.
    texts = [text for text in found.texts if text.text not in rows or tiles[1] > 60]
    boxes = [text.box for text in texts]
    for box in (*boxes, images):
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= found.size[0]
        assert box[3] <= found.size[1]
    for text, box in zip(texts, boxes, strict=True):
        assert not overlap(box, images), text
    for one, other in itertools.combinations(boxes, 2):
        assert not overlap(one, other)
    words = [text.text for text in texts]
    assert "".join(words).replace(" ", "").startswith(caption.replace(" ", "").replace("\n", ""))
    assert {"noise", "data", columns[0]} <= set(words)
    if num_columns > 2 and tiles[0] > 900:
        assert columns[-1] in words
    start, end, y = found.arrow
    assert start < end
    assert not any(overlap(box, (start, y - 5, end, y + 5)) for box in boxes)


def test_captions_stand_above_the_same_pixels(tmp_path):
    images = np.random.default_rng(0).integers(0, 17, (4, 8, 8, 1))
    pictures.grid(images, tmp_path / "plain.png", 17)
    pictures.grid(images, tmp_path / "said.png", 17, "digits, step 100")
    plain, said = read(tmp_path / "plain.png"), read(tmp_path / "said.png")
    (left, top), height = pictures.layout(plain.shape[::-1], 2, 2, "digits, step 100").tiles, plain.shape[0]
    np.testing.assert_array_equal(said[top : top + height, left : left + plain.shape[1]], plain)
    assert said[:top].min() < 100
    assert said.shape[0] == top + height


def test_a_strip_names_its_rows_and_columns_and_an_animation_its_frames(tmp_path, monkeypatch):
    said = []
    layout = pictures.layout
    monkeypatch.setattr(pictures, "layout", lambda *given: said.append(layout(*given)) or said[-1])
    frames = np.zeros((3, 2, 8, 8, 1), np.float32)
    names = ["γ = 5.00", "γ = 0.00", "γ = −7.50"]
    pictures.strip(frames, tmp_path / "a.png", "caption", names, ("one", "two"), pictures.TO_DATA)
    pictures.animation(frames, tmp_path / "a.gif", "caption", names, pictures.TO_DATA)
    strip, *animated = [[text.text for text in found.texts] for found in said]
    assert strip == ["caption", *names, "one", "two", "noise", "data"]
    assert animated == [["caption", name, "noise", "data"] for name in names]
    # A dot goes along the arrow.
    assert gif(tmp_path / "a.gif")[1] == 3
