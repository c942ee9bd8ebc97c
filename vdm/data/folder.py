"""Pictures in a user's folder, one file each: their splits and classes, and notes about what was found."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vdm.data import pictures
from vdm.data.arrays import Arrays
from vdm.data.dataset import NO_LABELS, Dataset, DatasetInfo, Element, Progress, Source
from vdm.data.folder_captions import read_captions, without
from vdm.data.folder_files import SHOWN, Found, counted, find
from vdm.data.splits import TEST, TRAIN, hashed_split, is_like_a_split, named_splits
from vdm.data.texts import TEXT
from vdm.errors import InputError
from vdm.files import expanded, printable
from vdm.reading import is_whole

KEPT = 1 << 30
"""Maximum number of bytes of decoded pixels kept in memory. Larger data are decoded again on every access."""

AT_ONCE = 256
"""Number of files read between progress reports; fewer if their pixels exceed `BYTES_AT_ONCE` bytes."""

BYTES_AT_ONCE = 1 << 26


def load_folder(path: str, progress: Progress | None = None, kept: int = KEPT) -> Dataset:
    """Load the pictures of a folder (png, jpg, bmp, gif, webp), all of one size, with 256 levels.

    Subfolders and links are followed. The splits may be top-level folders: `train`, and the first that exists of
    `test`, `val`, `valid`, `validation`, `dev`, `eval`; pictures outside of them are left out. Without such folders,
    about a tenth of the files become the test split, chosen by a hash of their path in the folder: adding files does
    not move others to a different split. If all pictures of the splits lie in folders exactly one level deep, these
    folders are classes, and each element has a "label"; a split by hash then has at least one test picture from every
    class with two or more.

    Pictures become uint8 as described in `vdm.data.pictures.read`. Each is decoded once on loading, so that a broken
    picture is refused before any work is done. If they exceed `kept` bytes in total, they are decoded again on each
    access. Hidden files and other file types are left out and counted in `info.notes`. The version is a hash of names
    and contents.

    Raises `InputError` for a missing folder, an empty split, folders named like splits that do not form a pair, a
    broken picture, pictures of different sizes or channels, and invalid captions (naming the file).
    """
    name, root = f"folder:{printable(path)}", expanded(path)
    if not root.is_dir():
        raise InputError(f"{name}: {'is not a folder' if root.exists() else 'no such folder'}")
    try:
        found = find(root)
        split = _split(found, name)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    names, boundary = [*split.train, *split.test], len(split.train)
    captions = read_captions(root, found.names, found.others, names)
    found.left_out["of other types"] = without(found.left_out["of other types"], captions.used)
    texts = None if captions.of is None else [*map(captions.of, names)]
    classes, labels = _classes(names, split.depth)
    read = _read_all(root, names, progress, kept)

    def source(part: slice) -> Source:
        beside: dict[str, Sequence[Any] | np.ndarray] = {} if labels is None else {"label": labels[part]}
        beside |= {} if texts is None else {TEXT: texts[part]}
        if read.images is None:
            return PictureFiles(root, names[part], read.shape, read.digests[part], beside)
        return Arrays({"image": read.images[part], **beside})

    info = DatasetInfo(
        name=name,
        version=f"sha256:{_version(names, read.digests, texts)}",
        shape=read.shape,
        levels=256,
        num_train=boundary,
        num_test=len(names) - boundary,
        train_split=split.described[0],
        test_split=split.described[1],
        preprocessing="grey pictures: 1 channel; others: RGB; turned as EXIF says",
        classes=classes,
        notes=(*_notes(found, split, read, classes or (), boundary), *captions.notes),
    )
    return Dataset(info, source(slice(boundary)), source(slice(boundary, None)))


class PictureFiles:
    """A source of picture files that are decoded on each access: "image", and the entries of `beside`, one per picture.

    Raises `InputError` for a file that has changed since it was first read.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        shape: tuple[int, int, int],
        digests: np.ndarray,
        beside: Mapping[str, Sequence[Any] | np.ndarray],
    ):
        self._root, self._names, self._shape, self._digests, self._beside = root, names, shape, digests, beside
        self.captions = beside.get(TEXT)
        """All captions of each picture; None if there are none."""

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Element:
        picture = pictures.read(self._root / self._names[index], self._shape)
        if _sha256(picture.content).tobytes() != self._digests[index].tobytes():
            raise InputError(f"{printable(self._root / self._names[index])}: has changed since the start")
        return {"image": picture.pixels} | {name: values[index] for name, values in self._beside.items()}


@dataclass
class Split:
    """File names of the pictures in each split."""

    train: list[str]
    test: list[str]
    described: tuple[str, str]
    """Description of the train and the test split, as parts of the folder."""
    depth: int
    """Number of folders above those that may be classes: 1 inside folders of splits, otherwise 0."""


def _split(found: Found, name: str) -> Split:
    """Split by the names of folders, or else by a hash of file names. `name` is what the user called the data."""
    chosen = named_splits(sorted(folder for folder in found.folders if folder and "/" not in folder))
    if chosen is None:
        _refuse_half_named(found, name)
        _, labels = _classes(found.names, 0)
        parts = hashed_split([os.fsencode(each) for each in found.names], labels)
        train, test = ([found.names[index] for index in part] for part in parts)
        each_class = "" if labels is None else ", of each class one or more"
        return Split(
            train, test, ("the other files", f"about a tenth of the files, by a hash of their names{each_class}"), 0
        )
    of_split: dict[str, list[str]] = {top: [] for top in chosen}
    for each in found.names:
        top, slash, _ = each.partition("/")
        if slash and top in of_split:
            of_split[top].append(each)
        else:
            found.left_out["pictures outside the splits"][f"{top}/" if slash else "files"] += 1
    for top, names in of_split.items():
        if not names:
            raise InputError(f"no pictures in {top}/ ({', '.join(pictures.SUFFIXES)})")
    train, test = of_split.values()
    return Split(train, test, (f"{chosen[0]}/", f"{chosen[1]}/"), 1)


def _refuse_half_named(found: Found, name: str) -> None:
    """Raise `InputError` for pictures in a folder named like a split but not used as one, rather than pool them."""
    like: Counter[str] = Counter()
    for each in found.names:
        folders = each.split("/")[:-1]
        depth = next((k for k, folder in enumerate(folders) if is_like_a_split(folder)), None)
        if depth is not None:
            like["/".join(folders[: depth + 1])] += 1
    if not like:
        return
    inside = {folder.rpartition("/")[0] for folder in like}
    above = inside.pop() if len(inside) == 1 else ""
    if above and named_splits([folder.rpartition("/")[2] for folder in like]):
        do = f"give {name}/{printable(above)}"
    else:
        do = f"rename them, or give one alone as {name}/{printable(next(iter(like)))}"
    raise InputError(
        f"pictures in folders named like splits ({counted(like)}), which are not mixed with others; "
        f"splits are {TRAIN[0]}/ and one of {', '.join(TEST)} at the top: {do}"
    )


def _classes(names: Sequence[str], depth: int) -> tuple[tuple[str, ...] | None, np.ndarray | None]:
    """Return class names and labels if all pictures lie in folders at this depth, on average two or more in each."""
    if any(each.count("/") != depth + 1 for each in names):
        return None, None
    of_each = [each.split("/")[depth] for each in names]
    folders = sorted(set(of_each))
    if len(folders) < 2 or 2 * len(folders) > len(names):
        return None, None
    if all(map(is_whole, folders)):
        folders.sort(key=int)
    labels = {folder: label for label, folder in enumerate(folders)}
    return tuple(map(printable, folders)), np.array([labels[folder] for folder in of_each])


def _no_classes(names: Sequence[str], depth: int) -> str:
    """Explain why there are no labels although some pictures lie in possible class folders; empty if none do."""
    outside = [each for each in names if each.count("/") != depth + 1]
    folders = {each.split("/")[depth] for each in names if each.count("/") == depth + 1}
    if not folders:
        return ""
    if outside:
        lie = "lies" if len(outside) == 1 else "lie"
        return f"{len(outside)} of {len(names)} images {lie} outside the class folders, such as {min(outside)}"
    if len(folders) == 1:
        return f"all images lie in one folder, {folders.pop()}/"
    return f"{len(folders)} folders with {len(names)} images: classes need two or more images each"


@dataclass
class Read:
    """What was read from all pictures."""

    shape: tuple[int, int, int]
    digests: np.ndarray
    """SHA-256 of each file's content, (N, 32)."""
    images: np.ndarray | None
    """Pixels (N, H, W, C), if kept in memory."""
    animated: int
    """Number of files with more than one frame."""


def _read_all(root: Path, names: Sequence[str], progress: Progress | None, kept: int) -> Read:
    """Decode every picture once."""
    first = pictures.read(root / names[0]).pixels
    shape = first.shape
    images = np.empty((len(names), *shape), np.uint8) if len(names) * first.size <= kept else None
    read = Read(shape, np.empty((len(names), 32), np.uint8), images, 0)

    def one(index: int) -> bool:
        picture = pictures.read(root / names[index], shape)
        read.digests[index] = _sha256(picture.content)
        if images is not None:
            images[index] = picture.pixels
        return picture.animated

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow's warnings about metadata that it could not read
        at_once = min(AT_ONCE, max(BYTES_AT_ONCE // first.size, 1))
        for start in range(0, len(names), at_once):
            part = range(start, min(start + at_once, len(names)))
            read.animated += sum(pool.map(one, part))
            if progress is not None:
                progress(part.stop, len(names))
    return read


def _sha256(content: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(content).digest(), np.uint8)


def _version(names: Sequence[str], digests: np.ndarray, captions: Sequence[tuple[str, ...]] | None) -> str:
    """Hash the names and contents of the files (and captions), independently of the splits."""
    hashed = hashlib.sha256()
    for index in sorted(range(len(names)), key=names.__getitem__):
        hashed.update(os.fsencode(names[index]) + b"\0" + digests[index].tobytes())
        if captions is not None:
            hashed.update(json.dumps(captions[index]).encode())
    return hashed.hexdigest()[:16]


def _notes(found: Found, split: Split, read: Read, classes: Sequence[str], boundary: int) -> tuple[str, ...]:
    """Notes for the user on how the files were interpreted."""
    notes = [f"training images: {split.described[0]}; test images: {split.described[1]}"]
    if classes:
        more = ", …" * (len(classes) > SHOWN)
        notes.append(f"{len(classes)} classes, by their folders: {', '.join(classes[:SHOWN])}{more}")
        train, test = ({each.split("/")[split.depth] for each in names} for names in (split.train, split.test))
        for which, only in (("training", train - test), ("test", test - train)):
            if only:
                others = f" and {len(only) - SHOWN} others" * (len(only) > SHOWN)
                notes.append(f"classes with only {which} images: {', '.join(sorted(only)[:SHOWN])}{others}")
    if not classes and (why := _no_classes([*split.train, *split.test], split.depth)):
        notes.append(NO_LABELS + why)
    if left_out := {what: which for what, which in found.left_out.items() if which}:
        notes.append("left out: " + "; ".join(f"{what}: {counted(which)}" for what, which in left_out.items()))
    if read.animated:
        notes.append(f"of {read.animated} animations, only the first frame is used")
    keys = read.digests[:, :8].copy().view(np.uint64)[:, 0]
    copies = len(keys) - len(np.unique(keys))
    if copies:
        both = len(np.intersect1d(keys[:boundary], keys[boundary:]))
        notes.append(
            f"copies: {copies} files have the same content as others" + f", {both} in both splits" * bool(both)
        )
    return tuple(map(printable, notes))
