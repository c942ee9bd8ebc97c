"""What tests of a user's own files share: images, and the one line of a refusal."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vdm.config import DataConfig
from vdm.data import examples, load
from vdm.errors import InputError


def images(num: int = 21, shape: tuple[int, ...] = (4, 5, 3), high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, (num, *shape), dtype=np.uint8)


def pixels(source) -> np.ndarray:
    return examples(source, range(len(source)))["image"]


def refusal(name: str, *words: str, **config) -> str:
    """The line with these words that refuses the data set of this name."""
    with pytest.raises(InputError) as error:
        load(DataConfig(name=name, **config))
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message
    return message


def write_folder(root: Path, arrays: np.ndarray, suffix: str = ".png") -> str:
    """A file for each image, 000.png and so on."""
    root.mkdir(parents=True, exist_ok=True)
    for index, array in enumerate(arrays):
        Image.fromarray(array).save(root / f"{index:03}{suffix}")
    return f"folder:{root}"


def write_grey(root: Path, names: dict[str, int]) -> str:
    """Pictures of one grey value each by their name in `root`."""
    for name, value in names.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(root / name)
    return f"folder:{root}"
