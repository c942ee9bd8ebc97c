"""What a data set is to the rest of the library: two sources of images, and a record of what they are."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

OFFLINE_CHOICES = "digits, photos32, npz:PATH, folder:PATH"
"""Data that need no network, named by every message about data that cannot be had."""


@runtime_checkable
class Source(Protocol):
    """Random access to images of one shape. A uint8 array of shape (N, H, W, C) is one."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: Any, /) -> np.ndarray:
        """Image `index` in [0, len): uint8, shape (H, W, C)."""


@dataclass(frozen=True)
class DatasetInfo:
    """What the images are; written into the run's record."""

    name: str
    """As in `data.name`, for example `digits` or `npz:/data/letters.npz`."""
    version: str
    """Version of the TFDS builder, or `sha256:` and the first 16 digits of a hash of the data."""
    shape: tuple[int, int, int]
    """(height, width, channels)."""
    levels: int
    """Number of integer values a pixel can take: 0 .. levels − 1."""
    num_train: int
    """Images in the train split."""
    num_test: int
    """Images in the test split."""
    train_split: str
    """Which part of the data the train split is."""
    test_split: str
    """Which part of the data the test split is."""
    preprocessing: str
    """What was done to the data to get these images, in one line."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types (the shape a list)."""
        return dataclasses.asdict(self) | {"shape": list(self.shape)}


@dataclass(frozen=True)
class Dataset:
    """Two disjoint sources of uint8 images of shape `info.shape`."""

    info: DatasetInfo
    train: Source
    test: Source
