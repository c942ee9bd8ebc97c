"""Pictures in a folder of the user's own, a file each: which there are, whose split each is, and what is left out."""

import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vdm.data import pictures
from vdm.data.arrays import Arrays
from vdm.data.dataset import NO_LABELS, Dataset, DatasetInfo, Element, Progress, Source
from vdm.data.splits import TEST, TRAIN, hashed_split, is_like_a_split, named_splits
from vdm.errors import InputError
from vdm.files import printable
from vdm.reading import is_whole

KEPT = 1 << 30
"""Bytes of pixels that are kept in memory, decoded. Larger data are decoded again whenever an image is read."""

AT_ONCE = 256
"""Files that are read before progress is told, and at most `BYTES_AT_ONCE` of their pixels."""

BYTES_AT_ONCE = 1 << 26

SHOWN = 4
"""Kinds of files that a line names."""

JUNK = ("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found", "__pycache__")
"""What file managers leave, beside names that begin with a dot."""


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
    picture, or pictures of different sizes or channels (naming the file).
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
    classes, labels = _classes(names, split.depth)
    read = _read_all(root, names, progress, kept)

    def source(part: slice) -> Source:
        of_part = None if labels is None else labels[part]
        if read.images is None:
            return PictureFiles(root, names[part], read.shape, read.digests[part], of_part)
        return Arrays({"image": read.images[part]} | ({} if of_part is None else {"label": of_part}))

    info = DatasetInfo(
        name=name,
        version=f"sha256:{_version(names, read.digests)}",
        shape=read.shape,
        levels=256,
        num_train=boundary,
        num_test=len(names) - boundary,
        train_split=split.described[0],
        test_split=split.described[1],
        preprocessing="grey pictures: 1 channel; others: RGB; turned as EXIF says",
        classes=classes,
        notes=_notes(found, split, read, classes or (), boundary),
    )
    return Dataset(info, source(slice(boundary)), source(slice(boundary, None)))


class PictureFiles:
    """Files as a source, decoded when they are read: "image", and "label" if there are labels.

    Raises `InputError` for one that is not as it was.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        shape: tuple[int, int, int],
        digests: np.ndarray,
        labels: np.ndarray | None,
    ):
        self._root, self._names, self._shape, self._digests, self._labels = root, names, shape, digests, labels

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Element:
        picture = pictures.read(self._root / self._names[index], self._shape)
        if _sha256(picture.content).tobytes() != self._digests[index].tobytes():
            raise InputError(f"{printable(self._root / self._names[index])}: has changed since the start")
        image = {"image": picture.pixels}
        return image if self._labels is None else image | {"label": self._labels[index]}


@dataclass
class Found:
    """What is in a folder."""

    names: list[str] = field(default_factory=list)
    """Of the pictures, in it, with /; sorted."""
    folders: list[str] = field(default_factory=list)
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """What was not taken: how many of which."""


def find(root: Path) -> Found:
    """The pictures below `root`, also through links, each folder once. Raises `InputError` if there are none."""
    found, seen = Found(), set()
    # Links last: what is in the folder itself has its own name.
    folders, links = [""], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            status = (root / folder).stat()
            with os.scandir(root / folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{printable(folder) or 'it'} cannot be read: {error.strerror}") from None
        if (status.st_dev, status.st_ino) in seen:
            found.left_out["links to what is there already"][f"{folder}/"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        found.folders.append(folder)
        for entry in entries:
            inside = f"{folder}/{entry.name}" if folder else entry.name
            suffix = os.path.splitext(entry.name)[1].lower()
            # Of a link the entry itself would raise where it leads nowhere.
            is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
            if entry.name.startswith(".") or entry.name.lower() in JUNK:
                found.left_out["hidden"][f"{entry.name}/" if is_folder else "files"] += 1
            elif is_folder:
                (links if entry.is_symlink() else folders).append(inside)
            elif not (os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()):
                found.left_out["no files, or links to nothing"][inside] += 1
            elif suffix in pictures.SUFFIXES:
                found.names.append(inside)
            else:
                found.left_out["of other types"][suffix or "no suffix"] += 1
    if not found.names:
        others = "".join(f"; {what}: {_counted(which)}" for what, which in found.left_out.items())
        raise InputError(f"no pictures ({', '.join(pictures.SUFFIXES)}){others}")
    found.names.sort()
    return found


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
        f"pictures in folders named like splits ({_counted(like)}), which are not mixed with others; "
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


def _version(names: Sequence[str], digests: np.ndarray) -> str:
    """Of which files there are and what they hold, whatever split each is of."""
    hashed = hashlib.sha256()
    for index in sorted(range(len(names)), key=names.__getitem__):
        hashed.update(os.fsencode(names[index]) + b"\0" + digests[index].tobytes())
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
    if found.left_out:
        notes.append("left out: " + "; ".join(f"{what}: {_counted(which)}" for what, which in found.left_out.items()))
    if read.animated:
        notes.append(f"of {read.animated} animations the first frame is taken")
    keys = read.digests[:, :8].copy().view(np.uint64)[:, 0]
    copies = len(keys) - len(np.unique(keys))
    if copies:
        both = len(np.intersect1d(keys[:boundary], keys[boundary:]))
        notes.append(f"copies: {copies} files have the content of others" + f", {both} of both splits" * bool(both))
    return tuple(map(printable, notes))


def _counted(which: Counter[str]) -> str:
    """The most frequent, with their numbers: 40 .txt, 2 .json, 3 others."""
    named = [f"{number} {each}" for each, number in which.most_common(SHOWN)]
    others = which.total() - sum(number for _, number in which.most_common(SHOWN))
    return ", ".join(named + [f"{others} others"] * bool(others))
