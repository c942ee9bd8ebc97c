"""Captions of images: texts in a source, encoded arrays in a batch."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from vdm import parts
from vdm.data.dataset import Checked, Dataset, Element, Source
from vdm.data.encodings.encoding import Encoding
from vdm.errors import InputError
from vdm.reading import shown

TEXT = "text"
"""The entry for captions: a text, a tuple of texts for one image or, once encoded, an array of numbers."""
LONGEST = 10_000
"""Maximum number of characters in a caption."""
MOST_WORDS = 2**16
"""Maximum number of distinct words kept for recognizing unknown words in other texts."""


@dataclass(frozen=True)
class Text:
    """A caption encoding fitted to the training captions; stored with a run as text.json."""

    name: str
    """The name of the encoding, as in `config.data.text`."""
    state: Mapping[str, Any]
    """What fitting has learned, as JSON types."""
    words: frozenset[str]
    """Words of the training captions, case-folded."""

    @cached_property
    def _encoding(self) -> Encoding:
        found: Encoding = parts.make("text", self.name)
        return found

    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """Encode captions, one array each; see `vdm.data.encodings.encoding.Encoding`."""
        return self._encoding.encode(self.state, captions)

    def cut(self, captions: Sequence[str]) -> int:
        """Return how many captions are too long for the encoding and lose their end."""
        return self._encoding.cut(self.state, captions)

    def check(self) -> None:
        """Raise ValueError for a state that fitting could not have produced; it may come from a file."""
        self._encoding.check(self.state)

    @property
    def vocabulary(self) -> int | None:
        """Number of different tokens, including padding; None for states of a frozen encoder."""
        return self._encoding.vocabulary(self.state)

    def unknown(self, caption: str) -> list[str]:
        """Return the words of a caption that occur in no training caption.

        >>> fit("bytes", ["a bold seven"]).unknown("a slanted Seven")
        ['slanted']
        """
        return [word for word in dict.fromkeys(words_of(caption)) if word not in self.words]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {"name": self.name, "state": dict(self.state), "words": sorted(self.words)}


def fit(name: str, captions: Sequence[str]) -> Text:
    """Fit the encoding that a config names to these captions. Raises `PartError` for an unknown name.

    >>> fit("bytes(length=8)", ["a seven"])(["a five"]).shape
    (1, 8)
    """
    encoding: Encoding = parts.make("text", name)
    words = dict.fromkeys(word for caption in captions for word in words_of(caption))
    return Text(parts.canonical("text", name), encoding.fit(captions), frozenset(list(words)[:MOST_WORDS]))


def words_of(caption: str) -> list[str]:
    """Return the words of a caption, case-folded, in order."""
    return re.findall(r"\w+", caption.casefold())


def captions_of(element: Element) -> tuple[str, ...]:
    """Return all captions of an element as a tuple; empty if it has none."""
    found = element.get(TEXT, ())
    return (found,) if isinstance(found, str) else tuple(map(str, found))


def captions_in(source: Source) -> Sequence[tuple[str, ...]]:
    """Return all captions of each image. If the source has an attribute `captions`, no images are read."""
    source = source.source if isinstance(source, Checked) else source
    known: Sequence[tuple[str, ...]] | None = getattr(source, "captions", None)
    return [captions_of(source[index]) for index in range(len(source))] if known is None else known


def given_captions(what: str, given: Any) -> list[tuple[str, ...]]:
    """Normalize user-supplied captions, one or several per image, to tuples; an empty text after the first is dropped.

    Raises `InputError`, prefixed with `what`, for values that are not texts and for images without a caption.

    >>> given_captions("captions", ["a cat", ("a dog", "a brown dog")])
    [('a cat',), ('a dog', 'a brown dog')]
    """
    given = given.tolist() if isinstance(given, np.ndarray) else given
    if isinstance(given, str | bytes):
        raise InputError(f"{what}: is {shown(given)}, one text for all; must be a text, or several, for each image")
    found = []
    for index, each in enumerate(given):
        several = (each,) if isinstance(each, str | bytes) or not isinstance(each, Iterable) else tuple(each)
        if bad := [caption for caption in several if not isinstance(caption, str)]:
            raise InputError(f"{what}: that of image {index} is {shown(bad[0])}; must be a text, or several")
        kept = tuple(str(caption) for number, caption in enumerate(several) if not number or caption.strip())
        if not kept or not kept[0].strip():
            raise InputError(f"{what}: image {index} has {'an empty caption' if kept else 'none'}; must be a text")
        check_caption(f"{what}: that of image {index}", *kept)
        found.append(kept)
    return found


def check_caption(what: str, *captions: str) -> None:
    """Raise `InputError`, prefixed with `what`, for captions longer than `LONGEST` or not encodable as UTF-8."""
    for caption in captions:
        if len(caption) > LONGEST:
            raise InputError(f"{what}: has {len(caption)} characters; must be at most {LONGEST}")
        if any("\ud800" <= letter <= "\udfff" for letter in caption):
            raise InputError(f"{what}: {shown(caption)} has half of a character (a lone surrogate)")


class Captioned:
    """A source of captioned elements whose captions are encoded: "text" is the array of an image's first caption."""

    def __init__(self, source: Source, text: Text):
        """Raise `InputError` for an image without a caption, or with an empty one."""
        self.source = source
        self.captions = every = captions_in(source)
        """All of each image, in words."""
        for index, captions in enumerate(every):
            if not captions or not all(caption.strip() for caption in captions):
                raise InputError(f"element {index} has {'an empty caption' if captions else 'no caption'}")
        # Many images share captions: each is encoded once.
        number = {caption: k for k, caption in enumerate(dict.fromkeys(chain.from_iterable(every)))}
        self._table = text(list(number))
        self._of = [np.array([number[caption] for caption in captions], np.int32) for captions in every]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Element:
        return {**self.source[index], TEXT: self._table[self._of[index][0]]}

    @property
    def several(self) -> bool:
        """Whether an image has more than one caption."""
        return any(len(of) > 1 for of in self._of)

    def every(self, index: int) -> np.ndarray:
        """The arrays of all captions of an image, (captions, *shape)."""
        return self._table[self._of[index]]


class EveryCaption:
    """The elements of a source with the arrays of all their captions."""

    def __init__(self, source: Source, captioned: Captioned):
        self._source, self._captioned = source, captioned

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Element:
        return {**self._source[index], TEXT: self._captioned.every(index)}


def one_caption(element: Element, rng: np.random.Generator) -> Element:
    """Return the element with one of its captions, all equally likely."""
    return {**element, TEXT: element[TEXT][rng.integers(len(element[TEXT]))]}


def has_captions(dataset: Dataset) -> bool:
    """Whether its images have captions that are still texts."""
    return bool(len(dataset.train)) and isinstance(dataset.train[0].get(TEXT, 0), str | tuple | np.str_)


def encoded(dataset: Dataset, text: str | Text) -> Dataset:
    """Return the data set with its captions as arrays, by a fitted encoding or by one fitted to the training captions.

    A data set without captions is returned unchanged. Raises `InputError` for images without a caption.
    """
    if not has_captions(dataset):
        return dataset
    if isinstance(text, str):
        text = fit(text, [*chain.from_iterable(captions_in(dataset.train))])
    sources: dict[str, Any] = {}
    for split in ("train", "test"):
        checked = getattr(dataset, split)
        try:
            sources[split] = Captioned(checked.source if isinstance(checked, Checked) else checked, text)
        except InputError as error:
            raise InputError(f"data set {dataset.info.name!r}: {split} {error}") from None
    different = {caption for source in sources.values() for captions in source.captions for caption in captions}
    notes = dataset.info.notes
    if cut := text.cut(sorted(different)):
        notes += (f"of {len(different)} captions, {cut} are too long for {text.name} and lose their end",)
    return replace(dataset, info=replace(dataset.info, notes=notes), text=text, **sources)
