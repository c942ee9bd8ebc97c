"""Images given on a command line: pictures, folders of them, npz files, samples, or a split of a run's data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from vdm.data import Arrays, pictures, selected
from vdm.data.arrays import check_images
from vdm.data.dataset import Element, Source
from vdm.data.folder_files import find
from vdm.data.npz import BESIDE, CLASSES, NUMBER
from vdm.errors import InputError
from vdm.evaluation.conditions import listed
from vdm.files import expanded, printable
from vdm.npz import array_names, read_npz
from vdm.programs.fitted import Fit, as_they_are
from vdm.progress import progress_of
from vdm.runs.open import Run
from vdm.runs.shards import Shards

DEFAULT_NAME = "{:05d}.png"
"""Name of an image that has none, by its number."""

Chunk = tuple[np.ndarray, np.ndarray | None, list[str] | None]
"""Images (num, height, width, channels), labels (num,) or None, names or None."""


class Like(NamedTuple):
    """What given images must be like."""

    shape: tuple[int, ...]
    levels: int
    classes: Sequence[str]
    """Names of the classes whose folders give labels; empty for a model without labels."""
    as_what: str = "as the model's images are"
    """Why, in messages."""


class OtherImages(InputError):
    """Raised for images of another shape or other levels than the model's."""


@dataclass(frozen=True)
class Given:
    """Images, with labels where the model is conditioned on them."""

    source: Source
    classes: int
    """Number of classes; 0 for no labels."""
    labels: np.ndarray | None
    """Labels given by --labels; None: the source's own."""
    names: list[str] | None
    """Names of the images; None: they are numbered."""
    note: str
    """The data and the split, such as "digits@test"; "" for images of files."""

    def __len__(self) -> int:
        return len(self.source)

    def __call__(self, numbers: range) -> Chunk:
        """Return the images with these numbers. Raises `InputError` for a label that is missing or not the model's."""
        elements = [self.source[number] for number in numbers]
        images = np.stack([element["image"] for element in elements])
        names = None if self.names is None else [self.names[number] for number in numbers]
        if not self.classes:
            return images, None, names
        if self.labels is not None:
            return images, self.labels[numbers], names
        for number, element in zip(numbers, elements, strict=True):
            if "label" not in element:
                raise InputError(
                    f"image {number} has no label, and the model needs one for each: give --labels, one for all or "
                    "one for each"
                )
            if not 0 <= element["label"] < self.classes:
                known = f"0 to {self.classes - 1}"
                raise InputError(f"image {number}: label {element['label']}; must be from {known}, or give --labels")
        return images, np.array([element["label"] for element in elements], np.int32), names


class Pictures:
    """Picture files as a source, read when indexed, with labels if there are any."""

    def __init__(self, files: Sequence[Path], like: Like, labels: Sequence[int] | None, fit: Fit):
        self.files, self._like, self._labels, self._fit = files, like, labels, fit

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Element:
        file = self.files[index]
        pixels = self._fit(pictures.read(file).pixels)
        if pixels.shape != self._like.shape:
            found, needed = pictures.describe(pixels.shape), pictures.describe(self._like.shape)
            raise OtherImages(f"{printable(file)}: is {found}; must be {needed}, {self._like.as_what}")
        image = {"image": pixels}
        return image if self._labels is None else image | {"label": self._labels[index]}


class Selected:
    """A selection of a source's elements."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Element:
        return self._source[int(self._indices[index])]


class Joined:
    """Several sources concatenated."""

    def __init__(self, sources: Sequence[Source]):
        self._sources, self._ends = sources, np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Element:
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[which][index - int(self._ends[which]) + len(self._sources[which])]


def classes_of(run: Run) -> int:
    """Return the number of classes that a run's model is conditioned on; 0 for a model without labels."""
    return (run.config.data.classes or len(run.classes or ())) if "label" in run.model.condition else 0


def of_split(run: Run, split: str, num: int | None, labels: str | None, console: Console) -> Given:
    """Return a split of the run's data, or `num` of its images, selected as for evaluation."""
    with progress_of(console, "reading the data") as progress:
        dataset = run.load(progress)
    source: Source = getattr(dataset, split)
    if num is not None and num < len(source):
        source = Selected(source, selected(len(source), num))
    return Given(source, classes_of(run), labels_of(run, labels, len(source)), None, f"{dataset.info.name}@{split}")


def like_model(run: Run) -> Like:
    """Describe the images of a run's model."""
    classes = tuple(run.classes or ()) if classes_of(run) else ()
    return Like(tuple(run.model.shape), run.model.levels, classes)


def of_paths(
    run: Run,
    texts: Sequence[str],
    labels: str | None,
    console: Console,
    fit: Fit = as_they_are,
    like: Like | None = None,
) -> Given:
    """Return the images that `texts` name, after checking each once; `fit` is applied to pictures.

    Images must be like the model's, or as `like` says. Raises `InputError` for others.
    """
    like = like_model(run) if like is None else like
    sources: list[Source] = []
    names: list[str] = []
    for text in texts:
        source, of_source = _read(like, text, fit)
        sources.append(source)
        names += [""] * len(source) if of_source is None else of_source
    joined = Joined(sources)
    if any(isinstance(source, Pictures) for source in sources):
        with progress_of(console, "reading pictures") as progress:
            for index in range(len(joined)):
                _check(like, joined[index]["image"], names[index])
                progress(index + 1, len(joined))
    names = [name or DEFAULT_NAME.format(index) for index, name in enumerate(names)]
    own = any(name != DEFAULT_NAME.format(index) for index, name in enumerate(names))
    return Given(joined, classes_of(run), labels_of(run, labels, len(joined)), names if own else None, "")


def labels_of(run: Run, text: str | None, num: int) -> np.ndarray | None:
    """Return the labels of --labels, one for each of `num` images; a single one is repeated. None without the flag.

    Raises `InputError` for a model without labels, an unknown label, and another number of labels.
    """
    if text is None:
        return None
    if not classes_of(run):
        raise InputError(f"--labels={text}: must be left out, as the model is not conditioned on labels")
    try:
        found = listed(text, run.classes or [str(k) for k in range(classes_of(run))])
    except InputError as error:
        raise InputError(str(error).replace("sampling.labels", "--labels")) from error
    if len(found) not in (1, num):
        raise InputError(f"--labels={text}: has {len(found)} labels; must be one, or one for each of {num} images")
    return np.broadcast_to(found, num)


def _read(like: Like, text: str, fit: Fit) -> tuple[Source, list[str] | None]:
    """Return the images of one argument, and their names if each is a file of its own."""
    if not text:
        raise InputError("images: an empty name; must be that of a picture, folder or npz file")
    path = expanded(text)
    if path.is_dir() and any(path.glob("shard_*.npz")):
        shards = Shards(path)
        for index in range(len(shards)):
            _check(like, shards[index]["image"], f"{printable(path)}: image {index}")
        return shards, None
    if path.is_dir():
        try:
            found = find(path).names
        except InputError as error:
            raise InputError(f"{printable(path)}: {error}") from error
        return _pictures(like, [path / name for name in found], fit)
    if path.suffix == ".npz":
        return _npz(like, path), None
    if not path.is_file():
        raise InputError(f"{printable(path)}: {'is not a file' if path.exists() else 'no such file'}")
    return _pictures(like, [path], fit)


def _pictures(like: Like, files: Sequence[Path], fit: Fit) -> tuple[Source, list[str]]:
    """Return pictures, with labels if each lies in a folder named after a class."""
    folders = [file.absolute().parent.name for file in files]
    labels = [like.classes.index(folder) for folder in folders] if set(folders) <= set(like.classes) else None
    return Pictures(files, like, labels, fit), [printable(file.name) for file in files]


def _npz(like: Like, path: Path) -> Source:
    """Return all images of an npz file in order: those of its array of images, or of several, one after the other."""
    there = array_names(path)
    beside = (*BESIDE, *CLASSES, NUMBER)
    images = [name for name in there if name not in beside and not name.endswith(("_label", "_group"))]
    sources: list[Source] = []
    for name in images:
        label = next((each for each in (f"{name}_label", "label") if each in there), None)
        arrays = read_npz(path, [name] if label is None else [name, label])
        what = f"{printable(path)}: array {name!r}"
        found = {"image": check_images(what, arrays[name], like.levels)}
        if label is not None:
            labels = arrays[label]
            if labels.shape != found["image"].shape[:1] or labels.dtype.kind not in "iu":
                raise InputError(f"{printable(path)}: array {label!r}: must be integers ({len(found['image'])},)")
            found["label"] = labels.astype(np.int32)
        _check(like, found["image"][0], what)
        sources.append(Arrays(found))
    if not sources:
        raise InputError(f"{printable(path)}: has no array of images; its arrays: {', '.join(there) or 'none'}")
    return Joined(sources)


def _check(like: Like, image: np.ndarray, what: str) -> None:
    """Raise `OtherImages` for an image of another shape or other levels than `like` says."""
    if image.shape != like.shape:
        raise OtherImages(f"{what}: has shape {image.shape}; must be {like.shape}, {like.as_what}")
    if image.max() >= like.levels:
        raise OtherImages(
            f"{what}: has values up to {image.max()}; must be below {like.levels}, the levels of the model"
        )
