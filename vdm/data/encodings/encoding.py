"""What an encoding of captions is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

State = Mapping[str, Any]
"""What fitting has found, as JSON types: it is kept with a run."""
PADDING = 0
"""The token after the last."""


class Encoding(NamedTuple):
    """Captions as arrays of one shape.

    Tokens are integers (length,), from 1 to `vocabulary` − 1, and `PADDING` after the last. States of a frozen encoder
    are real numbers (1 + length, features): row 0 is of the whole caption, the others of its tokens, and all 0 after
    the last. What is longer than `length` is cut.
    """

    fit: Callable[[Sequence[str]], State]
    """Of all training captions."""
    encode: Callable[[State, Sequence[str]], np.ndarray]
    """(state, captions) -> (captions, *shape), int32 or float32."""
    vocabulary: Callable[[State], int | None]
    """How many different tokens there are, with padding; None of states."""
    cut: Callable[[State, Sequence[str]], int]
    """How many of these captions are longer than `length`."""
    check: Callable[[State], None] = lambda state: None
    """Raises ValueError for what `fit` does not return: it may have been read from a file."""


def padded(tokens: Sequence[Sequence[int] | np.ndarray], length: int) -> np.ndarray:
    """Tokens of each caption, counted from 0, as int32 (captions, length), each plus 1.

    >>> padded([[4, 0], [7, 7, 7]], 2).tolist()
    [[5, 1], [8, 8]]
    """
    rows = np.full((len(tokens), length), PADDING, np.int32)
    for row, found in zip(rows, tokens, strict=True):
        kept = np.asarray(found[:length], np.int32)
        row[: len(kept)] = kept + 1
    return rows


def longer(tokens: Iterable[Sequence[int] | np.ndarray], length: int) -> int:
    """How many have more tokens than that."""
    return sum(len(each) > length for each in tokens)


def check_length(length: int) -> None:
    """Raises ValueError for a number of tokens below 1."""
    if not 1 <= length <= 4096:
        raise ValueError(f"length={length}: must be from 1 to 4096")
