"""What the rest of the library requires of a data set: two sources of elements and a description of them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vdm import likelihoods
from vdm.errors import InputError

NO_LABELS = "no labels: "
"""Prefix of notes that say why the images have no labels where one might expect them."""

NO_CAPTIONS = "no captions: "
"""Prefix of the corresponding notes about captions."""

OFFLINE_CHOICES = "digits, photos32, npz:PATH, folder:PATH"
"""Data that need no network; listed in every message about unavailable data."""

RESERVED = ("mask", "index", "offset", "dropped")
"""Names that training and evaluation use for entries of their own; data may not have them."""

NARROW = {np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32, np.dtype(np.float64): np.float32}

Element = Mapping[str, Any]
"""One example: "image", uint8 (H, W, C) or real numbers, and other entries, each a number or an array.

"text" may also be a caption (a string), or several captions of the same image (a tuple of strings).
"""

Batch = dict[str, np.ndarray]
"""Several elements: the same entries, each with a leading batch axis."""

Progress = Callable[[int, int], object]
"""Callback for progress while data are read; called with (done, total)."""


@runtime_checkable
class Source(Protocol):
    """Random access to elements with the same entries and shapes, such as a list of dicts."""

    def __len__(self) -> int:
        """Return the number of elements."""

    def __getitem__(self, index: Any, /) -> Element:
        """Return element `index`, from 0 to len − 1."""


@dataclass(frozen=True)
class DatasetInfo:
    """A description of the images, stored in the run's record."""

    name: str
    """The name as in `data.name`, for example `digits` or `npz:/data/letters.npz`."""
    version: str
    """Version of the TFDS builder, or `sha256:` and the first 16 digits of a hash of the data."""
    shape: tuple[int, ...]
    """(height, width, channels) of images; any shape for real numbers, e.g. (features,) for vectors."""
    levels: int
    """Number of integer values of a pixel, 0 to levels − 1; 0 for real numbers (`vdm.likelihoods.REAL`)."""
    num_train: int
    """Number of images in the train split."""
    num_test: int
    """Number of images in the test split."""
    train_split: str
    """Which part of the data is the train split."""
    test_split: str
    """Which part of the data is the test split."""
    preprocessing: str
    """How the images were made from the raw data, in one line."""
    classes: tuple[str, ...] | None = None
    """Names of the labels 0, 1, …; None if there are no labels or the number of classes is unknown."""
    notes: tuple[str, ...] = ()
    """What a user should know about how the data were read: how they were split, what was left out, what looks odd."""

    @property
    def values(self) -> str:
        """The kind of values in words: "17 levels" or "real numbers"."""
        return "real numbers" if self.levels == likelihoods.REAL else f"{self.levels} levels"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types (tuples become lists)."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


@dataclass(frozen=True)
class Dataset:
    """Two disjoint sources of elements with "image", and "label" if `info.classes` is given.

    Images are uint8 of shape `info.shape`, or finite float32 if `info.levels` is 0 (real numbers). If several images
    are parts of one thing (crops of a photograph, slices of a patient), an integer entry "group" says which; standard
    errors are then computed between groups. Any indexable of dicts can be a source. The first element of each source is
    checked immediately, the others as they are read.

    Raises `InputError` for a source whose length differs from `info`; an element that is not a dict or has no image; an
    image of the wrong type, shape or range; a label that is not one of the classes; a group that is not a 32-bit
    integer; an entry that is neither a number nor an array of numbers, or has a reserved name; and entries or shapes
    that differ from those of the first element.
    """

    info: DatasetInfo
    train: Source
    test: Source
    text: Any = None
    """The fitted encoding of the captions, a `vdm.data.texts.Text`; None if they are still texts, or absent."""

    def __post_init__(self) -> None:
        for split, num in (("train", self.info.num_train), ("test", self.info.num_test)):
            source = getattr(self, split)
            if len(source) != num:
                raise InputError(f"data set {self.info.name!r}: {split} has {len(source)} images, info says {num}")
            source = source.source if isinstance(source, Checked) else source
            object.__setattr__(self, split, Checked(source, self.info, split))


class Checked:
    """A source whose elements are checked as they are read (see `Dataset`)."""

    def __init__(self, source: Source, info: DatasetInfo, split: str):
        self.source, self._info, self._split = source, info, split
        self._first = self._shapes(source[0], 0) if len(source) else {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Element:
        element = self.source[index]
        shapes = self._shapes(element, index)
        if shapes != self._first:
            raise self._error(index, f"has {_listed(shapes)}; the first one has {_listed(self._first)}")
        return element

    def _shapes(self, element: Any, index: int) -> dict[str, tuple[int, ...]]:
        """Check one element and return the shape of each entry."""
        info, arrays = self._info, {}
        if not isinstance(element, Mapping):
            raise self._error(index, f"is of type {type(element).__name__}; must be a dict with 'image'")
        for name, value in element.items():
            arrays[name] = array = np.asarray(value)
            if name in RESERVED:
                raise self._error(index, f"has an entry {name!r}; reserved for evaluation are {', '.join(RESERVED)}")
            if name == "text" and array.dtype.kind == "U":
                del arrays[name]
                continue
            if array.dtype.kind not in "biuf":
                raise self._error(index, f"has {name!r} of dtype {array.dtype}; must be numbers")
        if "image" not in arrays:
            raise self._error(index, f"has no 'image'; its entries are {', '.join(map(repr, arrays)) or 'none'}")
        self._check_image(arrays["image"], index)
        if "label" in arrays and info.classes is not None:
            label = arrays["label"]
            if label.ndim or label.dtype.kind not in "iu" or not 0 <= label < len(info.classes):
                raise self._error(index, f"has label {label}; must be an integer from 0 to {len(info.classes) - 1}")
        if "group" in arrays:
            group = arrays["group"]
            # Batches are 32-bit: wider integers could collide.
            if group.ndim or group.dtype.kind not in "iu" or not -(2**31) <= group < 2**31:
                raise self._error(index, f"has group {group}; must be a 32-bit integer")
        return {name: array.shape for name, array in arrays.items()}

    def _check_image(self, image: np.ndarray, index: int) -> None:
        info = self._info
        needed = likelihoods.dtype(info.levels)
        if image.dtype != needed or image.shape != info.shape:
            raise self._error(index, f"has an image of {image.dtype} {image.shape}; must be {needed} {info.shape}")
        if info.levels == likelihoods.REAL:
            if not np.isfinite(image).all():
                raise self._error(index, "has a value that is not finite")
        elif info.levels < 256 and image.max() >= info.levels:
            raise self._error(index, f"has a pixel of {image.max()}, outside 0 to {info.levels - 1}")

    def _error(self, index: int, what: str) -> InputError:
        return InputError(f"data set {self._info.name!r}: {self._split} element {index} {what}")


def stack(elements: Sequence[Element]) -> Batch:
    """Stack elements into a batch, dropping captions that are still texts and converting 64-bit numbers to 32 bits."""
    names = [name for name, value in elements[0].items() if np.asarray(value).dtype.kind != "U"]
    batch = {name: np.stack([np.asarray(element[name]) for element in elements]) for name in names}
    return {name: array.astype(NARROW.get(array.dtype, array.dtype), copy=False) for name, array in batch.items()}


def examples(source: Source, indices: Iterable[int] | np.ndarray) -> Batch:
    """Return elements of a source as a batch, in the given order; `examples(source, range(8))` for the first 8."""
    return stack([source[int(index)] for index in indices])


def described(dataset: Dataset, names: Sequence[str]) -> tuple[str, ...]:
    """Describe entries of an element by type and shape: `label int32`, `tokens int32 77`.

    Raises `InputError` for an entry that the data do not have.
    """
    first = examples(dataset.train, [0])
    for name in names:
        if name not in first or name == "image":
            others = ", ".join(repr(other) for other in first if other != "image")
            prefix = {"label": NO_LABELS, "text": NO_CAPTIONS}.get(name)
            why = [f"; {note}" for note in dataset.info.notes if prefix and note.startswith(prefix)]
            raise InputError(
                f"network.condition: {name!r} is not in data set {dataset.info.name!r}; besides images it has "
                f"{others or 'nothing'}{''.join(why)}"
                + "; --config.data.labels=False trains without labels"
                * (name == "label")
            )
    return tuple(" ".join([name, str(first[name].dtype), *map(str, first[name].shape[1:])]) for name in names)


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name!r} {shape}" for name, shape in shapes.items())
