"""Pictures of images above their captions: where everything is, and that long ones are shortened."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vdm.plots import samples
from vdm.plots.captioned import LINES, captioned, of_lines
from vdm.plots.images import MARGIN, length, line_height


def test_each_image_is_above_its_caption(tmp_path: Path) -> None:
    """Four black images on white: dark pixels of the image, and of text below it where it has some."""
    images, path = np.zeros((4, 8, 8, 1), np.uint8), tmp_path / "new" / "picture.png"
    captioned(images, path, 17, ["a seven", "", "a bold two leaning right, on the left of the picture", "x"], "title")
    picture = np.asarray(Image.open(path).convert("L"))
    top = line_height() + 2 * MARGIN
    height, width = (picture.shape[0] - top) // 2, picture.shape[1] // 2
    for k, has_text in enumerate((True, False, True, True)):
        left, upper = k % 2 * width, top + k // 2 * height
        cell = picture[upper : upper + height, left : left + width]
        dark = cell < 128
        assert dark[2:98].sum() == 96 * 96
        assert dark[100:].any() == has_text
    assert (picture[:top] < 128).any()


def test_lines_are_short_and_few() -> None:
    text = "a very bold seven that leans to the right, stands on the left and is narrow " * 3
    lines = of_lines(text, 168)
    assert len(lines) == LINES
    assert all(length(line) <= 168 for line in lines)
    assert lines[-1].endswith("…")
    assert of_lines("a seven", 168) == ["a seven"]


def test_images_with_names_and_no_rows_are_captioned(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    samples.samples(images, one, 256, lambda: [], "", (), ["a", "b", "c"])
    captioned(images, other, 256, ["a", "b", "c"])
    assert one.read_bytes() == other.read_bytes()
    with pytest.raises(ValueError, match="captions: 2 of 3 images; must be one for each"):
        captioned(images, other, 256, ["a", "b"])
