"""What a data set is to the rest of the library: two sources of elements, and a record of what they are."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vdm import likelihoods
from vdm.errors import InputError

NO_LABELS = "no labels: "
"""How a note begins that says why images have none, where one could expect some."""

NO_CAPTIONS = "no captions: "
"""The same of captions."""

OFFLINE_CHOICES = "digits, photos32, npz:PATH, folder:PATH"
"""Data that need no network, named by every message about data that cannot be had."""

RESERVED = ("mask", "index", "offset", "dropped")
"""Entries that training and evaluation add to a batch."""

NARROW = {np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32, np.dtype(np.float64): np.float32}

Element = Mapping[str, Any]
"""One example: "image", uint8 (H, W, C) or real numbers, and what else there is of it, a number or an array each.

"text" may also be a caption, a string, or several of the same image, a tuple of strings.
"""

Batch = dict[str, np.ndarray]
"""The entries of several examples, each with a first axis of them."""

Progress = Callable[[int, int], object]
"""Is called with (done, total) while data are read."""


@runtime_checkable
class Source(Protocol):
    """Random access to elements that have the same entries, of the same shapes. A list of dicts is one."""

    def __len__(self) -> int:
        """Number of elements."""

    def __getitem__(self, index: Any, /) -> Element:
        """Element `index` in [0, len)."""


@dataclass(frozen=True)
class DatasetInfo:
    """What the images are; written into the run's record."""

    name: str
    """As in `data.name`, for example `digits` or `npz:/data/letters.npz`."""
    version: str
    """Version of the TFDS builder, or `sha256:` and the first 16 digits of a hash of the data."""
    shape: tuple[int, ...]
    """(height, width, channels); of real numbers any, (features,) of vectors."""
    levels: int
    """Number of integer values a pixel can take: 0 .. levels − 1. 0: real numbers (`vdm.likelihoods.REAL`)."""
    num_train: int
    """Images in the train split."""
    num_test: int
    """Images in the test split."""
    train_split: str
    """Which part of the data the train split is."""
    test_split: str
    """Which part of the data the test split is."""
    preprocessing: str
    """What was done to the data to get these images, in one line."""
    classes: tuple[str, ...] | None = None
    """Names of the labels 0, 1, …; None where images have none, or where their number is not known."""
    notes: tuple[str, ...] = ()
    """What a person should know of how they were found: how they were split, what was left out, what looks odd."""

    @property
    def values(self) -> str:
        """What they are made of, in words: "17 levels", or "real numbers"."""
        return "real numbers" if self.levels == likelihoods.REAL else f"{self.levels} levels"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types (tuples are lists)."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


@dataclass(frozen=True)
class Dataset:
    """Two disjoint sources of elements: "image", uint8 of shape `info.shape`; "label", where there are `info.classes`.

    Of real numbers, where `info.levels` is 0, "image" is float32 and finite.

    Where several images are parts of one thing (crops of a photograph, slices of a patient), an entry "group", an
    integer, says of which: standard errors are then between groups. Any indexable of dicts is a source. Elements are
    checked as they are read, the first of each source at once. Raises `InputError` for a source of another length than
    `info` says, an element that is no dict or has no image, an image of another type, shape or range, a label that is
    not one of the classes, a group that is no integer of 32 bits, an entry that is no number or array of them or has a
    name that evaluation uses, and entries or shapes other than those of the first element.
    """

    info: DatasetInfo
    train: Source
    test: Source
    text: Any = None
    """How captions were encoded, a `vdm.data.texts.Text`; None where they are still texts, or there are none."""

    def __post_init__(self) -> None:
        for split, num in (("train", self.info.num_train), ("test", self.info.num_test)):
            source = getattr(self, split)
            if len(source) != num:
                raise InputError(f"data set {self.info.name!r}: {split} has {len(source)} images, info says {num}")
            source = source.source if isinstance(source, Checked) else source
            object.__setattr__(self, split, Checked(source, self.info, split))


class Checked:
    """A source whose elements are checked as they are read; see `Dataset`."""

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
        """The shape of each entry of an element that is as it must be."""
        info, arrays = self._info, {}
        if not isinstance(element, Mapping):
            raise self._error(index, f"is of type {type(element).__name__}; needed is a dict with 'image'")
        for name, value in element.items():
            arrays[name] = array = np.asarray(value)
            if name in RESERVED:
                raise self._error(index, f"has an entry {name!r}; evaluation needs the names {', '.join(RESERVED)}")
            if name == "text" and array.dtype.kind == "U":
                del arrays[name]
                continue
            if array.dtype.kind not in "biuf":
                raise self._error(index, f"has {name!r} of dtype {array.dtype}; needed are numbers")
        if "image" not in arrays:
            raise self._error(index, f"has no 'image'; its entries are {', '.join(map(repr, arrays)) or 'none'}")
        self._check_image(arrays["image"], index)
        if "label" in arrays and info.classes is not None:
            label = arrays["label"]
            if label.ndim or label.dtype.kind not in "iu" or not 0 <= label < len(info.classes):
                raise self._error(index, f"has label {label}; needed is an integer from 0 to {len(info.classes) - 1}")
        if "group" in arrays:
            group = arrays["group"]
            # Batches have 32 bits, in which others would become one.
            if group.ndim or group.dtype.kind not in "iu" or not -(2**31) <= group < 2**31:
                raise self._error(index, f"has group {group}; needed is an integer of 32 bits")
        return {name: array.shape for name, array in arrays.items()}

    def _check_image(self, image: np.ndarray, index: int) -> None:
        info = self._info
        needed = likelihoods.dtype(info.levels)
        if image.dtype != needed or image.shape != info.shape:
            raise self._error(index, f"has an image of {image.dtype} {image.shape}; needed is {needed} {info.shape}")
        if info.levels == likelihoods.REAL:
            if not np.isfinite(image).all():
                raise self._error(index, "has a value that is not finite")
        elif info.levels < 256 and image.max() >= info.levels:
            raise self._error(index, f"has a pixel of {image.max()}, outside 0 to {info.levels - 1}")

    def _error(self, index: int, what: str) -> InputError:
        return InputError(f"data set {self._info.name!r}: {self._split} element {index} {what}")


def stack(elements: Sequence[Element]) -> Batch:
    """The batch of some elements, without captions that are still texts; numbers of 64 bits have 32, as on devices."""
    names = [name for name, value in elements[0].items() if np.asarray(value).dtype.kind != "U"]
    batch = {name: np.stack([np.asarray(element[name]) for element in elements]) for name in names}
    return {name: array.astype(NARROW.get(array.dtype, array.dtype), copy=False) for name, array in batch.items()}


def examples(source: Source, indices: Iterable[int] | np.ndarray) -> Batch:
    """The batch of these elements of a source, in this order; `examples(source, range(8))["image"]` are its first 8."""
    return stack([source[int(index)] for index in indices])


def described(dataset: Dataset, names: Sequence[str]) -> tuple[str, ...]:
    """Type and shape of these entries of an element: `label int32`, `tokens int32 77`.

    Raises `InputError` for one that the data do not have.
    """
    first = examples(dataset.train, [0])
    for name in names:
        if name not in first or name == "image":
            others = ", ".join(repr(other) for other in first if other != "image")
            prefix = {"label": NO_LABELS, "text": NO_CAPTIONS}.get(name)
            why = [f"; {note}" for note in dataset.info.notes if prefix and note.startswith(prefix)]
            raise InputError(
                f"network.condition: {name!r} is not of data set {dataset.info.name!r}; beside images it has "
                f"{others or 'nothing'}{''.join(why)}"
                + "; --config.data.labels=False trains without labels"
                * (name == "label")
            )
    return tuple(" ".join([name, str(first[name].dtype), *map(str, first[name].shape[1:])]) for name in names)


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name!r} {shape}" for name, shape in shapes.items())
