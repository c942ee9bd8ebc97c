"""Data sets made of a user's own arrays in memory."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vdm import likelihoods
from vdm.data.dataset import Dataset, DatasetInfo, Element
from vdm.data.texts import TEXT, given_captions
from vdm.errors import InputError

MOST_CLASSES = 2**16
"""Limit on the number of classes that are named automatically when no class names are given."""


class Arrays:
    """A source made of named arrays of equal length: element i holds entry i of each. "text" may hold captions."""

    def __init__(self, arrays: Mapping[str, Any]):
        """Raise `InputError` if there is no "image", if lengths differ, or if a caption is invalid."""
        self.captions = given_captions(f"{TEXT!r}", arrays[TEXT]) if _are_texts(arrays.get(TEXT, 0)) else None
        """All captions of each image; None if there are none."""
        self.arrays = {
            name: np.asarray(array) for name, array in arrays.items() if name != TEXT or self.captions is None
        }
        if "image" not in self.arrays:
            raise InputError(f"no array 'image' among {', '.join(map(repr, self.arrays)) or 'none'}")
        lengths = {name: len(array) if array.ndim else 0 for name, array in self.arrays.items()}
        if self.captions is not None:
            lengths[TEXT] = len(self.captions)
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise InputError(f"arrays differ in length: {listed}")

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def __getitem__(self, index: int) -> Element:
        element = {name: array[index] for name, array in self.arrays.items()}
        return element if self.captions is None else {**element, TEXT: self.captions[index]}


def _are_texts(given: Any) -> bool:
    """Whether the values are captions rather than numbers, judging by the first one."""
    if isinstance(given, np.ndarray) and given.dtype.kind not in "UOS":
        return False
    first = next(_leaves(given), 0)
    return first is None or isinstance(first, str | bytes)


def _leaves(given: Any) -> Iterator[Any]:
    """Yield the leaves of nested sequences; a string counts as a leaf."""
    given = given.tolist() if isinstance(given, np.ndarray) else given
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        yield given
    else:
        for each in given:
            yield from _leaves(each)


def in_memory(
    train: Mapping[str, Any],
    test: Mapping[str, Any],
    *,
    levels: int = 256,
    name: str = "in_memory",
    classes: Sequence[str] | None = None,
    version: str | None = None,
    splits: tuple[str, str] = ("train", "test"),
    preprocessing: str = "values as given",
    notes: Sequence[str] = (),
) -> Dataset:
    """Make a data set from arrays of N examples: "image" and, optionally, "label", "group", "text" and other entries.

    Images are integers 0 … levels − 1 of shape (N, H, W, C), or (N, H, W) for one channel. With `levels=0` they are
    finite real numbers of any shape (N, …), e.g. vectors (N, features), ideally scaled to about [−1, 1]. Labels are
    integers (N,). `classes` names them; by default, the names are numbers, up to the largest label that occurs. Groups
    are integers (N,) that say which photograph, patient, etc. an image comes from. "text" holds captions: one text or
    several per image. `version` (by default a hash of the arrays), `splits`, `preprocessing` and `notes` are stored in
    `info`.

    Raises `InputError` for arrays of unequal lengths; images of the wrong type, rank or range, or of different shapes
    in the two splits; groups or labels that are not integers (N,); labels that are not below the number of classes; and
    images without a caption where "text" is given.

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
        check = check_real if levels == likelihoods.REAL else check_images
        made[-1].arrays["image"] = check(f"{name}: {split} 'image'", made[-1].arrays["image"], levels)
    (_, *shape), (_, *other) = (source.arrays["image"].shape for source in made)
    if shape != other:
        raise InputError(f"{name}: images of train are {tuple(shape)}, those of test {tuple(other)}")
    labels = [source.arrays["label"] for source in made if "label" in source.arrays]
    if classes is None and labels and all(label.dtype.kind in "iu" and label.ndim == 1 for label in labels):
        highest = max(int(label.max()) for label in labels)
        if highest >= MOST_CLASSES:
            raise InputError(f"{name}: 'label': values up to {highest}; must be below {MOST_CLASSES}")
        classes = [str(k) for k in range(1 + highest)]
    for split, source in zip(("train", "test"), made, strict=True):
        for entry, num in (("label", None if classes is None else len(classes)), ("group", None)):
            if entry in source.arrays:
                _check_integers(f"{name}: {split} {entry!r}", source.arrays[entry], num)
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
        notes=tuple(notes),
    )
    for source in made:
        # Labels of any integer type mean the same to a model.
        if "label" in source.arrays:
            source.arrays["label"] = source.arrays["label"].astype(np.int32)
    return Dataset(info, *made)


class LevelsError(InputError):
    """Raised for values that exceed the declared number of levels."""


def check_images(what: str, array: np.ndarray, levels: int) -> np.ndarray:
    """Return the array as uint8 (N, H, W, C).

    Raises `InputError`, prefixed with `what`, for the wrong type, rank or range, with a suggestion where possible;
    `LevelsError` for values that a larger number of levels (up to 256) would allow.
    """
    if array.size == 0:
        raise InputError(f"{what}: shape {array.shape} holds no pixels")
    if not np.issubdtype(array.dtype, np.integer):
        needed = f"must be integers (0 to {levels - 1})"
        raise InputError(f"{what}: dtype {array.dtype}; {needed}{_guess_at_values(array, levels)}")
    guess = _guess_at_shape(array.shape)
    if array.ndim not in (3, 4) or guess:
        raise InputError(f"{what}: shape {array.shape}; must be (N, H, W, C), or (N, H, W) for one channel{guess}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= levels:
        error = LevelsError if low >= 0 and high < 256 else InputError
        raise error(f"{what}: values from {low} to {high}, outside 0 to {levels - 1} (levels={levels})")
    return (array if array.ndim == 4 else array[..., None]).astype(np.uint8, copy=False)


def check_real(what: str, array: np.ndarray, levels: int = likelihoods.REAL) -> np.ndarray:
    """Return the array as float32 (N, …). Raises `InputError` for the wrong type or rank, and for NaN and ∞."""
    if array.ndim < 2 or array.size == 0:
        raise InputError(f"{what}: shape {array.shape}; must be (N, features), or (N, …) without empty axes")
    if array.dtype.kind != "f":
        raise InputError(
            f"{what}: dtype {array.dtype}; must be real numbers, float32 (levels={levels}); for integers "
            "0 to n − 1, set levels=n"
        )
    with np.errstate(over="ignore"):  # overflow becomes ∞, which is reported below
        values = array.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if bad.size:
        raise InputError(f"{what}: {bad.size} of {len(values)} have values that are not finite; the first is {bad[0]}")
    return values


def _guess_at_values(array: np.ndarray, levels: int) -> str:
    """Suggest how to convert values that are not integers; empty if there is nothing to suggest."""
    if array.dtype == bool:
        return "; convert True and False with .astype('uint8'), and use 2 levels"
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        return ""
    low, high = array.min(), array.max()
    if np.array_equal(array, np.rint(array)) and not (low >= -1 and high <= 1):
        return "; these are whole numbers: .astype('int32')"
    for least, change in ((0, f"{levels - 1} * x"), (-1, f"{(levels - 1) / 2:g} * (x + 1)")):
        if least <= low and high <= 1:
            return f"; convert values from {least} to 1 with np.rint({change}).astype('uint8')"
    return ""


def _guess_at_shape(shape: tuple[int, ...]) -> str:
    """Suggest what a shape other than (N, H, W, C) or (N, H, W) may be; empty for a valid shape."""
    match shape:
        case (_, 1 | 3 | 4 as channels, _, width) if width > 4:
            return f"; if the {channels} channels come first, use x.transpose(0, 2, 3, 1)"
        case (_, width, 1 | 3 | 4) if width > 4:
            return "; this looks like one image: use np.stack for several (x[..., None] for narrow gray ones)"
        case (_, size):
            for channels in (1, 3):
                side = math.isqrt(size // channels)
                if side > 1 and channels * side**2 == size:
                    return f"; rows of {size} may be images: x.reshape(-1, {side}, {side}, {channels})"
    return ""


def _check_integers(what: str, array: np.ndarray, num: int | None) -> None:
    """Raise `InputError` unless the array is integers (N,), each from 0 to `num` − 1 if `num` is given."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InputError(f"{what}: {array.dtype} {array.shape}; must be integers (N,)")
    if num == 0:
        raise InputError(f"{what}: values from {array.min()} to {array.max()}; must be class numbers, from 0")
    if num is not None and (array.min() < 0 or array.max() >= num):
        raise InputError(f"{what}: values from {array.min()} to {array.max()}, outside 0 to {num - 1}")


def _digest(sources: Sequence[Arrays]) -> str:
    hashed = hashlib.sha256()
    for source in sources:
        for name, array in sorted(source.arrays.items()):
            hashed.update(f"{name} {array.dtype} {array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).data)
        if source.captions is not None:
            hashed.update(json.dumps(source.captions).encode())
    return hashed.hexdigest()[:16]
