"""Captions that a request gives in its own words, in place of those of the data."""

from collections.abc import Sequence

import numpy as np

from vdm.data.dataset import Checked, Source
from vdm.data.texts import Captioned, Text
from vdm.errors import InputError
from vdm.reading import shown

MOST_SHOWN = 48
"""Characters of a caption in a picture."""


def captions_of_lines(text: str) -> tuple[str, ...]:
    """One a line; lines without a word are none.

    >>> captions_of_lines("a seven\\n\\n a bold two ")
    ('a seven', 'a bold two')
    """
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def encode(text: Text, captions: Sequence[str]) -> np.ndarray:
    """(captions, *shape), as the network takes them. Raises `InputError` for one that is empty, or would be cut.

    >>> from vdm.data.texts import fit
    >>> encode(fit("bytes(length=4)", ["a two"]), ["a 2"]).tolist()
    [[98, 33, 51, 0]]
    """
    if not all(caption.strip() for caption in captions):
        raise InputError("a caption is empty; must have words")
    if text.cut(captions):
        caption = next(each for each in captions if text.cut([each]))
        raise InputError(
            f"the caption {shown(caption)} is longer than config.data.text={text.name} encodes; must be shorter"
        )
    return text(captions)


def captions_of_images(source: Source, indices: np.ndarray) -> list[str]:
    """The first caption of each of these images, in words; none where the source has no words left."""
    source = source.source if isinstance(source, Checked) else source
    if not isinstance(source, Captioned):
        return []
    return [source.captions[int(index)][0] for index in indices]


def unknown_words(text: Text | None, captions: Sequence[str]) -> list[str]:
    """Those that no training caption has, each once; none where nothing is known of these."""
    return [] if text is None else list(dict.fromkeys(word for each in captions for word in text.unknown(each)))


def shortened(caption: str, most: int = MOST_SHOWN) -> str:
    """As pictures have it.

    >>> shortened("a bold seven leaning right", 12)
    'a bold seve…'
    """
    return caption if len(caption) <= most else f"{caption[: most - 1].rstrip()}…"
