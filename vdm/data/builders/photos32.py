"""TFDS builder of 32×32 crops of the photographs that scikit-learn and scikit-image ship."""

import importlib.resources
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIDE = 32
TRAIN_PHOTOS = (
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/motorcycle_left.png"),  # motorcycle_right shows the same scene, so it is not used
)
TEST_PHOTOS = (
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
)
TRAIN_STRIDE, TEST_STRIDE = 12, 32


class Photos32(tfds.core.GeneratorBasedBuilder):
    """8-bit RGB crops of 32×32 pixels from seven photographs; no photograph contributes to both splits.

    Each photograph is cropped at its own size and at half size (each pixel the rounded mean of 2×2), on a regular grid
    that starts in the top left corner: every 12 pixels for the train split, where crops overlap, and every 32 pixels
    for the test split, where crops of the same size do not. This gives 9159 training crops and 744 test crops.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Crops of the colour photographs shipped inside scikit-learn and scikit-image.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(SIDE, SIDE, 3), dtype=np.uint8),
                    "photo": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(
                levels=256,
                preprocessing="32×32 crops at full and at half size (2×2 means); "
                f"train: {_names(TRAIN_PHOTOS)} every {TRAIN_STRIDE} pixels; "
                f"test: {_names(TEST_PHOTOS)} every {TEST_STRIDE} pixels",
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {
            "train": self._generate_examples(TRAIN_PHOTOS, TRAIN_STRIDE),
            "test": self._generate_examples(TEST_PHOTOS, TEST_STRIDE),
        }

    def _generate_examples(
        self, photos: tuple[tuple[str, str], ...], stride: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        key = 0
        for package, path in photos:
            # Read the file itself: skimage.data would try to download what is missing.
            with importlib.resources.files(package).joinpath(path).open("rb") as file:
                photo = np.asarray(Image.open(file).convert("RGB"))
            for image in (photo, halve(photo)):
                for crop in crops(image, stride):
                    yield key, {"image": crop, "photo": path}
                    key += 1


def halve(image: np.ndarray) -> np.ndarray:
    """Reduce uint8 (H, W, C) to (H // 2, W // 2, C) by rounded 2×2 means (½ up), dropping an odd last row or column."""
    height, width, channels = image.shape
    blocks = image[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, channels)
    return ((blocks.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def crops(image: np.ndarray, stride: int) -> Iterator[np.ndarray]:
    """Yield all complete SIDE×SIDE crops whose top left corner is at multiples of `stride`, row by row."""
    for top in range(0, image.shape[0] - SIDE + 1, stride):
        for left in range(0, image.shape[1] - SIDE + 1, stride):
            yield image[top : top + SIDE, left : left + SIDE]


def _names(photos: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(path.rpartition("/")[2].partition(".")[0] for _, path in photos)
