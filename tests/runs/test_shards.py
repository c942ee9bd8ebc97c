"""Shards that are others than they should be are refused, one line each, and nothing is drawn over them."""

from pathlib import Path

import numpy as np
import pytest

from vdm.errors import InputError
from vdm.runs import shards

SHAPE, LEVELS = (4, 4, 1), 17
IMAGES = np.arange(3 * 16, dtype=np.uint8).reshape(3, *SHAPE) % LEVELS


def never(first: int, num: int) -> np.ndarray:
    raise AssertionError("was drawn")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one shard of three images."""
    assert shards.stream(tmp_path, 3, {"seed": 1}, lambda first, num: IMAGES, SHAPE, LEVELS) == 3
    return tmp_path


def test_what_is_there_is_kept_and_read(folder):
    assert shards.stream(folder, 3, {"seed": 1}, never, SHAPE, LEVELS) == 0
    assert shards.stream(folder, 2, {"seed": 1}, never, SHAPE, LEVELS) == 0
    (images,) = shards.read(folder)
    np.testing.assert_array_equal(images, IMAGES)


def test_samples_of_an_earlier_version_are_those_of_its_one_precision_and_unguided(folder):
    assert shards.stream(folder, 3, {"seed": 1, "precision": "tf32", "guidance": "none"}, never, SHAPE, LEVELS) == 0
    with pytest.raises(InputError, match=r"other settings: guidance null there, \"classifier_free\" here|'classifier_"):
        shards.stream(folder, 3, {"seed": 1, "guidance": "classifier_free"}, never, SHAPE, LEVELS)
    with pytest.raises(InputError, match=r"other settings: precision null there, \"bfloat16\" here|'bfloat16' here"):
        shards.stream(folder, 3, {"seed": 1, "precision": "bfloat16"}, never, SHAPE, LEVELS)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (IMAGES[:, :2], r"images are uint8 \(3, 2, 4, 1\); must be uint8 \(up to 1024, 4, 4, 1\)"),
        (IMAGES[..., 0], r"images are uint8 \(3, 4, 4\); must be uint8"),
        (np.uint8(3), r"images are uint8 \(\); must be uint8"),
        (IMAGES.astype(np.int32), "images are int32"),
        (np.full((3, *SHAPE), np.nan, np.float32), "images are float32"),
        (IMAGES + 1, "images have values up to 17; must be below 17"),
        (np.zeros((1025, *SHAPE), np.uint8), r"images are uint8 \(1025, 4, 4, 1\); must be uint8 \(up to 1024"),
        (np.array([None]), "dtype object"),
        (None, "no array 'images'"),
    ],
)
def test_a_shard_of_something_else_is_refused(folder, images, says):
    np.savez(folder / "shard_00000.npz", **({"other": IMAGES} if images is None else {"images": images}))
    before = (folder / "shard_00000.npz").read_bytes()
    with pytest.raises(InputError, match=rf"shard_00000\.npz: .*{says}.*; delete it and it is drawn again$"):
        shards.stream(folder, 3, {"seed": 1}, never, SHAPE, LEVELS)
    assert (folder / "shard_00000.npz").read_bytes() == before


def test_shards_of_different_shapes_are_no_folder_of_samples(folder):
    np.savez(folder / "shard_00001.npz", images=IMAGES[:, :2])
    with pytest.raises(InputError, match=r"shard_00001\.npz: images are"):
        list(shards.read(folder))


@pytest.mark.parametrize(
    "text", ["[1]", "3", '{"seed": "²"}', '{"seed": 1, "seed": 1}', "", "\ufeff{}", '{"seed": NaN}']
)
def test_settings_that_are_no_settings(folder, text):
    (folder / "settings.json").write_text(text)
    with pytest.raises(InputError, match=str(folder)):
        shards.stream(folder, 3, {"seed": 1}, never, SHAPE, LEVELS)
