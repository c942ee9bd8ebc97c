"""TFDS builder of scikit-learn's 8×8 handwritten digits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

NUM_IMAGES, NUM_TEST = 1797, 300


class Digits(tfds.core.GeneratorBasedBuilder):
    """1797 gray images of 8×8 pixels with 17 levels: 1497 for training, 300 for testing.

    The test split is the last 300 images in the order of `RandomState(0).permutation(1797)`, a stream that numpy
    guarantees never to change.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Optical recognition of handwritten digits (UCI), the copy that scikit-learn ships.",
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            metadata=tfds.core.MetadataDict(
                levels=17,
                preprocessing="scikit-learn load_digits; test: the last 300 in RandomState(0).permutation(1797)",
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        order = np.random.RandomState(0).permutation(NUM_IMAGES)
        return {
            "train": self._generate_examples(order[:-NUM_TEST]),
            "test": self._generate_examples(order[-NUM_TEST:]),
        }

    def _generate_examples(self, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        for key, index in enumerate(indices):
            image = digits.images[index].astype(np.uint8)[..., None]
            yield key, {"image": image, "label": int(digits.target[index])}
