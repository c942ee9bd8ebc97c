"""Images from a user's own npz file, with optional labels, groups, captions and other conditions."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vdm.data.arrays import check_images, in_memory
from vdm.data.dataset import NO_CAPTIONS, NO_LABELS, Dataset
from vdm.data.splits import hashed_split, named_splits
from vdm.data.texts import TEXT as CAPTIONS
from vdm.errors import InputError
from vdm.files import expanded, printable
from vdm.npz import NUMBERS, TEXT, array_names, read_npz

BESIDE = ("group", "label", CAPTIONS)
"""Arrays allowed beside the images in a file without named splits."""

CLASSES = ("classes",)
"""Name of the array of class names."""

NUMBER = "number"
"""Array written by `vdm decompress` that gives each image's index in its file; left out when loading."""

FEW = 128
"""If the values stay below this, the data probably have fewer than 256 levels; a note says so."""


def load_npz(path: str, levels: int | None) -> Dataset:
    """Load the images of an npz file: integers 0 to levels − 1 (None: 256), (N, H, W, C), or (N, H, W) if gray.

    Arrays `train` and `test` (or `val`, `valid`, `validation`, `dev`, `eval`) hold the images of the two splits. Arrays
    `train_NAME` and `test_NAME`, also of length N, become the entry NAME of the elements: `label`, integers; `group`,
    integers that say which photograph, patient, etc. an image comes from; `text`, captions (N,) or (N, K), padded with
    empty strings for images with fewer than K; or any other condition of the network.

    Without such names, the file must hold exactly one array of images, under any name, and at most `label`, `group` and
    `text` beside it. About a tenth of the images become the test split, chosen by a hash of the image's index, or of
    its group, so that groups stay together.

    An array of texts `classes` names the labels 0, 1, …. Other arrays are left out and listed in `info.notes`. The
    version is a hash of the file.

    Raises `InputError` for a missing or broken file, missing arrays, wrong types or ranks, values outside the levels,
    arrays of different lengths, different image shapes in the two splits, an empty split, and images without pixels.
    """
    name, file = f"npz:{printable(path)}", expanded(path)
    try:
        names = array_names(file)
        found = _named(file, names, levels or 256) or _hashed(file, names, levels or 256)
        classes = _class_names(file, names) if "label" in found.train else None
    except InputError as error:
        raise type(error)(f"{name}: {str(error).removeprefix(f'{printable(file)}: ')}") from None
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    notes = [f"training images: {found.splits[0]}; test images: {found.splits[1]}"]
    used = found.used if classes is None else {*found.used, *CLASSES}
    if left_out := [each for each in names if each not in used]:
        notes.append(f"left out: the arrays {', '.join(left_out)}")
    notes += found.unpaired
    largest = max(int(split["image"].max()) for split in (found.train, found.test))
    if levels is None and largest < FEW:
        notes.append(f"no value is above {largest}: if there are {largest + 1} levels, not 256, set data.levels")
    return in_memory(
        found.train,
        found.test,
        levels=levels or 256,
        name=name,
        version=f"sha256:{digest[:16]}",
        splits=found.splits,
        classes=classes,
        preprocessing="values as stored",
        notes=notes,
    )


def _class_names(file: Path, names: Sequence[str]) -> list[str] | None:
    """Return the class names, or None if the file has none."""
    if not set(CLASSES) <= set(names):
        return None
    (array,) = read_npz(file, CLASSES, TEXT).values()
    if array.ndim != 1:
        raise InputError(f"array {CLASSES[0]!r}: {array.dtype} {array.shape}; must be texts (classes,)")
    found: list[str] = array.tolist()
    if twice := [name for name, times in Counter(found).items() if times > 1]:
        raise InputError(f"array {CLASSES[0]!r}: has {twice[0]!r} twice; must be different texts, one for each class")
    return found


class Found(NamedTuple):
    """The arrays of each split, by entry name, and where in the file they come from."""

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    splits: tuple[str, str]
    used: set[str]
    unpaired: tuple[str, ...] = ()
    """Notes about labels or captions that only one of the two splits has."""


def _named(file: Path, names: Sequence[str], levels: int) -> Found | None:
    """Return the splits given by the arrays' names; None if the names do not define two splits."""
    splits = named_splits(names)
    if splits is None:
        return None
    beside = [{name.removeprefix(f"{split}_") for name in names if name.startswith(f"{split}_")} for split in splits]
    entries = sorted(set.intersection(*beside) - {"image"})
    wanted = [{"image": split} | {entry: f"{split}_{entry}" for entry in entries} for split in splits]
    used = {name for of_split in wanted for name in of_split.values()}
    read = _read(file, sorted(used))
    train, test = ({entry: read[name] for entry, name in of_split.items()} for of_split in wanted)
    for split, arrays in zip(splits, (train, test), strict=True):
        arrays["image"] = check_images(f"array {split!r}", arrays["image"], levels)
    unpaired = tuple(
        f"{prefix}array {there!r} is there, {missing!r} is not"
        for entry, prefix in (("label", NO_LABELS), (CAPTIONS, NO_CAPTIONS))
        for there, missing in itertools.permutations([f"{split}_{entry}" for split in splits])
        if there in names and missing not in names
    )
    return Found(train, test, (f"array {splits[0]}", f"array {splits[1]}"), used, unpaired)


def _read(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of numbers; captions may also be texts."""
    texts = [name for name in names if name.rpartition("_")[2] == CAPTIONS]
    numbers = [name for name in names if name not in texts]
    return read_npz(file, numbers) | (read_npz(file, texts, NUMBERS + TEXT) if texts else {})


def _hashed(file: Path, names: Sequence[str], levels: int) -> Found:
    """Split a single array of images, and the arrays beside it, by a hash."""
    images = [name for name in names if name not in (*BESIDE, *CLASSES, NUMBER)]
    if len(images) != 1:
        there = ", ".join(sorted(names)) or "none"
        raise InputError(
            f"found the arrays {there}; must be 'train' and 'test', or a single array of images "
            f"(and beside it at most {', '.join(map(repr, (*BESIDE, *CLASSES)))})"
        )
    (name,) = images
    arrays = _read(file, [each for each in names if each not in (*CLASSES, NUMBER)])
    arrays = {"image": check_images(f"array {name!r}", arrays.pop(name), levels)} | arrays
    num = len(arrays["image"])
    for entry in arrays.keys() & set(BESIDE):
        array, several = arrays[entry], entry == CAPTIONS
        shape = array.shape[:1] if several else array.shape
        if shape != (num,) or array.dtype.kind not in (TEXT if several else "iu"):
            needed = f"texts ({num},) or ({num}, K)" if several else f"integers ({num},)"
            found = f"{array.dtype} {array.shape}"
            raise InputError(f"array {entry!r}: {found}; must be {needed}")
    by, keys = ("group", arrays["group"]) if "group" in arrays else ("index", np.arange(num))
    # A whole group goes to one split, so labels cannot be stratified.
    labels, of = (None, "group") if by == "group" else (arrays.get("label"), "image")
    parts = hashed_split([str(key).encode() for key in keys.tolist()], labels, of)
    train, test = ({entry: array[part] for entry, array in arrays.items()} for part in parts)
    splits = ("the others", f"about a tenth of array {name}, each by a hash of its {by}")
    return Found(train, test, splits, {*arrays.keys() & set(BESIDE), name})
