"""Pictures in a folder of the user's own, a file each: whose split and class each is, and what to know of them."""

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
from vdm.files import printable
from vdm.reading import is_whole

KEPT = 1 << 30
"""Bytes of pixels that are kept in memory, decoded. Larger data are decoded again whenever an image is read."""

AT_ONCE = 256
"""Files that are read before progress is told, and at most `BYTES_AT_ONCE` of their pixels."""

BYTES_AT_ONCE = 1 << 26


def load_folder(path: str, progress: Progress | None = None, kept: int = KEPT) -> Dataset:
    """The pictures of a folder (png, jpg, bmp, gif, webp; with subfolders and links), all of one size; 256 levels.

    Folders named as splits are: `train`, and the first there is of `test`, `val`, `valid`, `validation`, `dev`, `eval`;
    what lies beside them is left out. Without such, each file is of the test split or not by a hash of its name in the
    folder: about a tenth is, of every class one or more, and files that are added change no other's split. Where all
    pictures of the splits lie in folders, one level deep, these are classes, and each element has a "label".

    A picture becomes uint8 as `vdm.data.pictures.read` says. Each is decoded here once, so that a broken one is refused
    before any work is done; those of more than `kept` bytes together are decoded again when they are read. Hidden files
    and those of other types are left out; `info.notes` counts them. The version is a hash of names and contents.

    Raises `InputError` for a missing folder, an empty split, folders named like splits that do not make two, a broken
    picture, pictures of different sizes or channels, or captions that are none (naming the file).
    """
    name, root = f"folder:{printable(path)}", Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"{name}: {'is no folder' if root.exists() else 'no such folder'}")
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
    """Files as a source, decoded when they are read: "image", and what is `beside`, of each picture one.

    Raises `InputError` for one that is not as it was.
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
        """Of each picture all; None where there are none."""

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Element:
        picture = pictures.read(self._root / self._names[index], self._shape)
        if _sha256(picture.content).tobytes() != self._digests[index].tobytes():
            raise InputError(f"{printable(self._root / self._names[index])}: has changed since the start")
        return {"image": picture.pixels} | {name: values[index] for name, values in self._beside.items()}


@dataclass
class Split:
    """Names of the pictures of each split."""

    train: list[str]
    test: list[str]
    described: tuple[str, str]
    """Which part of the folder they are."""
    depth: int
    """In how many folders those are that may be classes."""


def _split(found: Found, name: str) -> Split:
    """By the folders' names, or by a hash of the files'. `name` is what the user called the data."""
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
            found.left_out["pictures beside the splits"][f"{top}/" if slash else "files"] += 1
    for top, names in of_split.items():
        if not names:
            raise InputError(f"no pictures in {top}/ ({', '.join(pictures.SUFFIXES)})")
    train, test = of_split.values()
    return Split(train, test, (f"{chosen[0]}/", f"{chosen[1]}/"), 1)


def _refuse_half_named(found: Found, name: str) -> None:
    """Raises `InputError` if pictures lie in a folder named like a split, which no one wants pooled with others."""
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
        f"splits are {TRAIN[0]}/ and one of {', '.join(TEST)} at its top: {do}"
    )


def _classes(names: Sequence[str], depth: int) -> tuple[tuple[str, ...] | None, np.ndarray | None]:
    """Classes and labels, if all lie in folders below `depth` others, one level deep, and those have several each."""
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
    """Why images of which some lie in folders that may be classes have no labels; empty where none do."""
    outside = [each for each in names if each.count("/") != depth + 1]
    folders = {each.split("/")[depth] for each in names if each.count("/") == depth + 1}
    if not folders:
        return ""
    if outside:
        lie = "lies" if len(outside) == 1 else "lie"
        return f"{len(outside)} of {len(names)} images {lie} outside of the folders of classes, as {min(outside)}"
    if len(folders) == 1:
        return f"all images lie in one folder, {folders.pop()}/"
    return f"{len(folders)} folders of {len(names)} images: classes have two images or more each"


@dataclass
class Read:
    """What reading all pictures gave."""

    shape: tuple[int, int, int]
    digests: np.ndarray
    """SHA-256 of the content of each file, (N, 32)."""
    images: np.ndarray | None
    """(N, H, W, C), if they are kept."""
    animated: int
    """How many have more than one frame."""


def _read_all(root: Path, names: Sequence[str], progress: Progress | None, kept: int) -> Read:
    """Every picture, decoded once."""
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
        warnings.simplefilter("ignore")  # Pillow's, of what it could make nothing of beside the pixels
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
    """Of which files there are and what they hold, whatever split each is of."""
    hashed = hashlib.sha256()
    for index in sorted(range(len(names)), key=names.__getitem__):
        hashed.update(os.fsencode(names[index]) + b"\0" + digests[index].tobytes())
        if captions is not None:
            hashed.update(json.dumps(captions[index]).encode())
    return hashed.hexdigest()[:16]


def _notes(found: Found, split: Split, read: Read, classes: Sequence[str], boundary: int) -> tuple[str, ...]:
    """What a person should know of how the files were taken."""
    notes = [f"training images: {split.described[0]}; test images: {split.described[1]}"]
    if classes:
        more = ", …" * (len(classes) > SHOWN)
        notes.append(f"{len(classes)} classes, by their folders: {', '.join(classes[:SHOWN])}{more}")
        train, test = ({each.split("/")[split.depth] for each in names} for names in (split.train, split.test))
        for which, only in (("training", train - test), ("test", test - train)):
            if only:
                others = f" and {len(only) - SHOWN} others" * (len(only) > SHOWN)
                notes.append(f"classes with {which} images alone: {', '.join(sorted(only)[:SHOWN])}{others}")
    if not classes and (why := _no_classes([*split.train, *split.test], split.depth)):
        notes.append(NO_LABELS + why)
    if left_out := {what: which for what, which in found.left_out.items() if which}:
        notes.append("left out: " + "; ".join(f"{what}: {counted(which)}" for what, which in left_out.items()))
    if read.animated:
        notes.append(f"of {read.animated} animations the first frame is taken")
    keys = read.digests[:, :8].copy().view(np.uint64)[:, 0]
    copies = len(keys) - len(np.unique(keys))
    if copies:
        both = len(np.intersect1d(keys[:boundary], keys[boundary:]))
        notes.append(f"copies: {copies} files have the content of others" + f", {both} of both splits" * bool(both))
    return tuple(map(printable, notes))
