"""Encoding of captions as UTF-8 bytes."""

from collections.abc import Sequence

import numpy as np

from vdm.data.encodings.encoding import Encoding, State, check_length, longer, padded


def utf8(length: int = 64) -> Encoding:
    """Encode the UTF-8 bytes of the case-folded caption, each plus 1, cut or padded to `length`. Nothing is learned.

    Raises ValueError for a length outside 1 to 4096.

    >>> utf8(length=4).encode({}, ["Seven", "a"]).tolist()
    [[116, 102, 119, 102], [98, 0, 0, 0]]
    """
    check_length(length)

    def tokens(captions: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(caption.casefold().encode(), np.uint8) for caption in captions]

    def encode(state: State, captions: Sequence[str]) -> np.ndarray:
        return padded(tokens(captions), length)

    def cut(state: State, captions: Sequence[str]) -> int:
        return longer(tokens(captions), length)

    return Encoding(lambda captions: {}, encode, lambda state: 257, cut)
