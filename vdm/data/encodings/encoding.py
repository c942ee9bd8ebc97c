"""The interface of caption encodings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

State = Mapping[str, Any]
"""What fitting has learned, as JSON types; stored with a run."""
PADDING = 0
"""The token that fills the rest of a row after the last token."""


class Encoding(NamedTuple):
    """Functions that turn captions into arrays of one shape.

    Tokens are integers (length,), from 1 to `vocabulary` − 1, padded with `PADDING`. The states of a frozen encoder are
    real numbers (1 + length, features): row 0 belongs to the whole caption, the following rows to its tokens, and the
    rest is 0. Anything beyond `length` tokens is cut off.
    """

    fit: Callable[[Sequence[str]], State]
    """Fit the encoding to all training captions."""
    encode: Callable[[State, Sequence[str]], np.ndarray]
    """Encode captions: (state, captions) -> (captions, *shape), int32 tokens or float32 states."""
    vocabulary: Callable[[State], int | None]
    """Number of different tokens, including padding; None for states."""
    cut: Callable[[State, Sequence[str]], int]
    """Number of captions that are longer than `length` tokens."""
    check: Callable[[State], None] = lambda state: None
    """Raise ValueError for a state that `fit` could not have returned; it may have been read from a file."""


def padded(tokens: Sequence[Sequence[int] | np.ndarray], length: int) -> np.ndarray:
    """Return zero-based tokens as int32 (captions, length): each plus 1, cut or padded to `length`.

    >>> padded([[4, 0], [7, 7, 7]], 2).tolist()
    [[5, 1], [8, 8]]
    """
    rows = np.full((len(tokens), length), PADDING, np.int32)
    for row, found in zip(rows, tokens, strict=True):
        kept = np.asarray(found[:length], np.int32)
        row[: len(kept)] = kept + 1
    return rows


def longer(tokens: Iterable[Sequence[int] | np.ndarray], length: int) -> int:
    """Return how many captions have more than `length` tokens."""
    return sum(len(each) > length for each in tokens)


def check_length(length: int) -> None:
    """Raise ValueError unless the number of tokens is from 1 to 4096."""
    if not 1 <= length <= 4096:
        raise ValueError(f"length={length}: must be from 1 to 4096")
