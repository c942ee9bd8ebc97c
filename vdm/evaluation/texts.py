"""Captions given in a request, in place of those of the data."""

from collections.abc import Sequence

import numpy as np

from vdm.data.dataset import Checked, Source
from vdm.data.texts import Captioned, Text
from vdm.errors import InputError
from vdm.reading import shown

MOST_SHOWN = 48
"""Maximum number of characters of a caption in a picture."""


def captions_of_lines(text: str) -> tuple[str, ...]:
    """Return one caption per line, ignoring blank lines.

    >>> captions_of_lines("a seven\\n\\n a bold two ")
    ('a seven', 'a bold two')
    """
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def encode(text: Text, captions: Sequence[str]) -> np.ndarray:
    """Encode captions for the network, shape (captions, *shape). Raises `InputError` if one is empty or would be cut.

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
    """Return the first caption of each of these images as text; none if the source has kept no text."""
    source = source.source if isinstance(source, Checked) else source
    if not isinstance(source, Captioned):
        return []
    return [source.captions[int(index)][0] for index in indices]


def unknown_words(text: Text | None, captions: Sequence[str]) -> list[str]:
    """Return the distinct words that occur in no training caption; none if those captions are not known."""
    return [] if text is None else list(dict.fromkeys(word for each in captions for word in text.unknown(each)))


def shortened(caption: str, most: int = MOST_SHOWN) -> str:
    """Shorten a caption for a picture.

    >>> shortened("a bold seven leaning right", 12)
    'a bold seve…'
    """
    return caption if len(caption) <= most else f"{caption[: most - 1].rstrip()}…"
