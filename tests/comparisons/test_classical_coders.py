"""Classical coders of images: exact on whatever there is, and what goes wrong with one is said in its line."""

import zlib
from typing import Any

import numpy as np
import pytest

from vdm.comparisons.codecs import classical
from vdm.comparisons.codecs.classical import CODERS, Coder, Outcome, as_picture, measured, tiled

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (5, 6, 7, 3), np.uint8)
RAW = Coder(lambda picture: picture.tobytes(), lambda code, ndim: code, lambda: None)

ALWAYS = {"PNG", "deflate", "LZMA"}
"""Those that need no more than vdm does."""


def dot() -> np.ndarray:
    images = np.zeros((3, 16, 16, 1), np.uint8)
    images[1, 3, 4], images[2] = 255, 255
    return images


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize(
    "images",
    [
        NOISE[..., :1] % 17,
        NOISE,
        dot(),
        np.concatenate([NOISE, NOISE[..., :1]], axis=3),
        NOISE[..., :2],
        NOISE[:2, :1, :1],
    ],
    ids=["17 levels", "RGB", "dot", "4 channels", "2 channels", "1×1"],
)
def test_what_is_coded_comes_back(name: str, images: np.ndarray) -> None:
    """`measured` decodes and compares: no problem is that all was the same."""
    if CODERS[name].missing():
        assert name not in ALWAYS
        pytest.skip(f"{name} is not installed")
    found = measured(name, CODERS[name], images)
    assert (found.name, found.problem) == (name, "")
    assert found.files is not None
    assert found.picture is not None
    assert found.smallest == min(found.files, found.picture)


def test_bytes_are_those_of_files_and_of_the_smaller_picture() -> None:
    # Columns of one image: neighbours are alike in one layout, and not in the other.
    images = np.repeat(RNG.integers(0, 256, (9, 8, 1, 1), np.uint8), 8, axis=2)
    found = measured("deflate", CODERS["deflate"], images)

    def deflated(array: np.ndarray) -> int:
        stream = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
        return len(stream.compress(array.tobytes()) + stream.flush())

    assert found.files == sum(deflated(image) for image in images)
    sizes = {columns: deflated(tiled(images, columns)) for columns in (1, 3)}
    assert sizes[1] != sizes[3]
    assert found.picture == min(sizes.values())
    assert found.columns == min(sizes, key=lambda columns: sizes[columns])


def test_a_picture_of_all_has_each_at_its_place() -> None:
    picture = tiled(NOISE, 2)
    assert picture.shape == (18, 14, 3)
    for k, image in enumerate(NOISE):
        row, column = divmod(k, 2)
        np.testing.assert_array_equal(picture[6 * row : 6 * row + 6, 7 * column : 7 * column + 7], image)
    assert not picture[12:, 7:].any()


def test_a_column_is_no_taller_than_coders_take() -> None:
    assert classical.layouts(np.zeros((2047, 8, 1, 1), np.uint8)) == [1, 46]
    assert classical.layouts(np.zeros((2048, 8, 1, 1), np.uint8)) == [46]


def test_channels_that_no_coder_knows_are_side_by_side() -> None:
    two = as_picture(NOISE[0, ..., :2])
    np.testing.assert_array_equal(two, np.hstack([NOISE[0, ..., 0], NOISE[0, ..., 1]]))
    np.testing.assert_array_equal(as_picture(NOISE[0]), NOISE[0])
    np.testing.assert_array_equal(as_picture(NOISE[0, ..., :1]), NOISE[0, ..., 0])


def broken(error: Exception) -> Coder:
    def encode(picture: Any) -> bytes:
        raise error

    return RAW._replace(encode=encode)


@pytest.mark.parametrize(
    ("coder", "expected"),
    [
        (RAW._replace(missing=lambda: "libfoo"), Outcome("x", None, None, 0, "not installed: libfoo")),
        (
            RAW._replace(decode=lambda code, ndim: code[::-1]),
            Outcome("x", None, None, 0, "not lossless on these images"),
        ),
        (broken(RuntimeError("too\nsmall")), Outcome("x", None, None, 0, "failed: too small")),
        (RAW, Outcome("x", 630, 630, 1, "")),
    ],
)
def test_what_goes_wrong_is_said(coder: Coder, expected: Outcome) -> None:
    assert measured("x", coder, NOISE) == expected
