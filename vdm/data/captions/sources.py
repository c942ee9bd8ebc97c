"""The built-in data sets with captions: `digits_captions`, `photos32_captions`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vdm.data.captions import DESCRIPTIONS
from vdm.data.dataset import Dataset, Element, Source, examples
from vdm.data.prepared import load_builtin
from vdm.data.texts import TEXT

AT_ONCE = 1024
"""Number of images measured at a time."""


class WithCaptions:
    """A subset of a source, with the captions of each element as "text"."""

    def __init__(self, source: Source, indices: Sequence[int], captions: Sequence[tuple[str, ...]]):
        self._source, self._indices = source, indices
        self.captions = [captions[index] for index in indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Element:
        return {**self._source[self._indices[index]], TEXT: self.captions[index]}


def digits_captions(data_dir: str = "", held_out: tuple[str, ...] = ()) -> Dataset:
    """`digits` with captions of class, stroke weight, slant, width and place; see `vdm.data.captions.digits`.

    `held_out` lists combinations of attributes in the captions' own words, as in `digits_captions(held_out=('seven
    leaning left',))`. Images that match all of a combination are removed from the train split; they remain in the test
    split.

    Raises ValueError for a combination in unknown words or that matches no training image, and if no training images
    remain.
    """
    return _captioned("digits_captions", load_builtin("digits", data_dir), held_out)


def photos32_captions(data_dir: str = "", held_out: tuple[str, ...] = ()) -> Dataset:
    """`photos32` with captions of dominant color, brightness and texture; see `vdm.data.captions.photos`.

    `held_out` lists combinations to leave out of training, as in `digits_captions`: `held_out=('dark orange',)`.
    """
    return _captioned("photos32_captions", load_builtin("photos32", data_dir), held_out)


def _captioned(name: str, dataset: Dataset, held_out: tuple[str, ...]) -> Dataset:
    """Return the data set with captions, and without the training images that are held out."""
    describe = DESCRIPTIONS[name]
    captions = {split: _captions(getattr(dataset, split), describe.captions) for split in ("train", "test")}
    # The first caption of an image mentions all of its attributes.
    said = [describe.grammar.attributes_of(of_image[0]) for of_image in captions["train"]]
    kept, notes = np.ones(len(said), bool), []
    for text in held_out:
        try:
            wanted = describe.grammar.combination(text)
        except ValueError as error:
            raise ValueError(f"held_out: {error}") from None
        held = np.array([all(each[key] == value for key, value in wanted.items()) for each in said])
        if not held.any():
            raise ValueError(f"held_out: {text!r}: matches no training image; must match some")
        notes.append(f"held out of training: {text}, {held.sum()} of {len(held)} images")
        kept &= ~held
    if not kept.any():
        raise ValueError(f"held_out={held_out!r}: no training image is left")
    indices = {"train": np.flatnonzero(kept).tolist(), "test": list(range(len(dataset.test)))}
    info = replace(
        dataset.info,
        name=f"{name}(held_out={held_out!r})" if held_out else name,
        version=f"{dataset.info.version}+{_digest([*captions['train'], *captions['test']])}",
        num_train=int(kept.sum()),
        preprocessing=f"{dataset.info.preprocessing}; captions composed of what is measured on each image",
        notes=(*dataset.info.notes, *notes),
    )
    train, test = (
        WithCaptions(getattr(dataset, split), indices[split], captions[split]) for split in ("train", "test")
    )
    return Dataset(info, train, test)


def _captions(source: Source, captions: Callable[..., list[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """Return all captions of each element."""
    found = []
    for start in range(0, len(source), AT_ONCE):
        batch = examples(source, range(start, min(start + AT_ONCE, len(source))))
        found += captions(batch["image"], batch.get("label"))
    return found


def _digest(captions: Sequence[tuple[str, ...]]) -> str:
    return hashlib.sha256("\n".join("\t".join(each) for each in captions).encode()).hexdigest()[:8]
