"""Data in memory: a user's own arrays as a data set."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from vdm.data.dataset import Dataset, DatasetInfo, Element
from vdm.errors import InputError


class Arrays:
    """Arrays of one length by name as a source: element i has the i-th of each."""

    def __init__(self, arrays: Mapping[str, ArrayLike]):
        """Raises `InputError` if they have no image or differ in length."""
        self.arrays = {name: np.asarray(array) for name, array in arrays.items()}
        if "image" not in self.arrays:
            raise InputError(f"no array 'image' among {', '.join(map(repr, self.arrays)) or 'none'}")
        lengths = {name: len(array) if array.ndim else 0 for name, array in self.arrays.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise InputError(f"arrays differ in length: {listed}")

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def __getitem__(self, index: int) -> Element:
        return {name: array[index] for name, array in self.arrays.items()}


def in_memory(
    train: Mapping[str, ArrayLike],
    test: Mapping[str, ArrayLike],
    *,
    levels: int = 256,
    name: str = "in_memory",
    classes: Sequence[str] | None = None,
    version: str | None = None,
    splits: tuple[str, str] = ("train", "test"),
    preprocessing: str = "values as given",
) -> Dataset:
    """A data set of arrays: "image", and where there are any "label", integers (N,), and other entries of N examples.

    Images are integers 0 … levels − 1 of shape (N, H, W, C), or (N, H, W) for one channel. `classes` are the names of
    the labels; without them as many are numbered as labels occur. `version`, by default a hash of the arrays, `splits`
    and `preprocessing` go into the record.

    Raises `InputError` for arrays of unequal lengths, images of another type, rank or range, or of different shapes in
    the two splits, and for labels that are not integers (N,) below the number of classes.

    >>> images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 1, 0])
    >>> split = {"image": images, "label": labels}
    >>> in_memory(train=split, test=split, levels=2, classes=("even", "odd")).info.shape
    (8, 8, 1)
    """
    made: list[Arrays] = []
    for split, given in (("train", train), ("test", test)):
        try:
            made.append(Arrays(given))
        except InputError as error:
            raise InputError(f"{name}: {split}: {error}") from None
        made[-1].arrays["image"] = check_images(f"{name}: {split} 'image'", made[-1].arrays["image"], levels)
    (_, *shape), (_, *other) = (source.arrays["image"].shape for source in made)
    if shape != other:
        raise InputError(f"{name}: images of train are {tuple(shape)}, those of test {tuple(other)}")
    labels = [source.arrays["label"] for source in made if "label" in source.arrays]
    if classes is None and labels and all(label.dtype.kind in "iu" and label.ndim == 1 for label in labels):
        classes = [str(k) for k in range(1 + max(int(label.max()) for label in labels))]
    for split, source in zip(("train", "test"), made, strict=True):
        if "label" in source.arrays and classes is not None:
            _check_labels(f"{name}: {split} 'label'", source.arrays["label"], len(classes))
    info = DatasetInfo(
        name=name,
        version=version or f"sha256:{_digest(made)}",
        shape=tuple(shape),
        levels=levels,
        num_train=len(made[0]),
        num_test=len(made[1]),
        train_split=splits[0],
        test_split=splits[1],
        preprocessing=preprocessing,
        classes=None if classes is None else tuple(classes),
    )
    return Dataset(info, *made)


def check_images(what: str, array: np.ndarray, levels: int) -> np.ndarray:
    """The array as uint8 (N, H, W, C). Raises `InputError`, about `what`, for another type, rank or range."""
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{what}: dtype {array.dtype}; needed are integers (0 to {levels - 1})")
    if array.ndim not in (3, 4):
        raise InputError(f"{what}: shape {array.shape}; needed is (N, H, W, C) or (N, H, W)")
    if array.size == 0:
        raise InputError(f"{what}: shape {array.shape} holds no pixels")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= levels:
        raise InputError(f"{what}: values from {low} to {high}, outside 0 to {levels - 1} (levels={levels})")
    return (array if array.ndim == 4 else array[..., None]).astype(np.uint8)


def _check_labels(what: str, labels: np.ndarray, num: int) -> None:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(f"{what}: {labels.dtype} {labels.shape}; needed are integers (N,)")
    if labels.min() < 0 or labels.max() >= num:
        raise InputError(f"{what}: values from {labels.min()} to {labels.max()}, outside 0 to {num - 1}")


def _digest(sources: Sequence[Arrays]) -> str:
    hashed = hashlib.sha256()
    for source in sources:
        for name, array in sorted(source.arrays.items()):
            hashed.update(f"{name} {array.dtype} {array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()[:16]
