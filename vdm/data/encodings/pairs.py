"""Byte-pair encoding: tokens are bytes, or frequent sequences of bytes."""

import functools
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from vdm.data.encodings.encoding import Encoding, State, check_length, longer, padded
from vdm.reading import parse_json

BYTES = 256
MOST = 2**16
"""Maximum size of the vocabulary."""

Merges = tuple[tuple[str, str], ...]
"""Pairs of tokens to merge, most frequent first. Bytes are written as one printable character, as in `tokenizers`."""


def bpe(vocabulary: int = 512, length: int = 32) -> Encoding:
    """Byte-pair encoding (Sennrich et al. 2016) of lower-cased text, learned within the words of the training captions.

    The vocabulary consists of padding, the 256 bytes, and as many merges as fit into it and occur in the captions. Any
    text can be encoded. Captions longer than `length` tokens are cut.

    Raises ValueError for a vocabulary below 257 or above 2¹⁶, and for a length outside 1 to 4096.

    >>> encoding = bpe(vocabulary=260, length=6)
    >>> state = encoding.fit(["a bold seven", "a bold eight"])
    >>> state["merges"], encoding.vocabulary(state)
    ([['b', 'o'], ['l', 'd'], ['Ġ', 'a']], 260)
    >>> encoding.encode(state, ["a bold one"]).tolist()
    [[259, 221, 257, 258, 221, 79]]
    """
    check_length(length)
    if not BYTES + 1 <= vocabulary <= MOST:
        raise ValueError(f"vocabulary={vocabulary}: must be from {BYTES + 1} to {MOST}")

    def fit(captions: Sequence[str]) -> State:
        tokenizer = _prepared(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary - 1, initial_alphabet=_alphabet(), show_progress=False, special_tokens=[]
        )
        tokenizer.train_from_iterator(captions, trainer)
        return {"merges": parse_json(tokenizer.to_str().encode(), "tokenizers")["model"]["merges"]}

    def tokens(state: State, captions: Sequence[str]) -> list[list[int]]:
        return [each.ids for each in _tokenizer(_merges(state)).encode_batch(list(captions))]

    def encode(state: State, captions: Sequence[str]) -> np.ndarray:
        return padded(tokens(state, captions), length)

    def cut(state: State, captions: Sequence[str]) -> int:
        return longer(tokens(state, captions), length)

    return Encoding(fit, encode, lambda state: 1 + len(_vocabulary(_merges(state))), cut, check)


def check(state: State) -> None:
    """Raise ValueError unless the state is a list of pairs, each made of tokens that exist by then."""
    merges, known = state.get("merges"), set(_alphabet())
    if not isinstance(merges, list) or len(merges) > MOST:
        raise ValueError(f"merges: must be a list of pairs, at most {MOST}")
    for number, pair in enumerate(merges):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(token, str) for token in pair)):
            raise ValueError(f"merges: number {number} is not a pair of tokens")
        if unknown := [token for token in pair if token not in known]:
            raise ValueError(f"merges: number {number} uses {unknown[0]!r}, which is not a token at that point")
        known.add("".join(pair))


def _merges(state: State) -> Merges:
    return tuple((first, second) for first, second in state["merges"])


def _alphabet() -> list[str]:
    """The characters that stand for the 256 bytes, in a fixed order."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _vocabulary(merges: Merges) -> dict[str, int]:
    """Number the tokens, bytes first. Two different merges may give the same token."""
    tokens = dict.fromkeys([*_alphabet(), *("".join(pair) for pair in merges)])
    return {token: number for number, token in enumerate(tokens)}


@functools.lru_cache(maxsize=4)
def _tokenizer(merges: Merges) -> Tokenizer:
    return _prepared(models.BPE(_vocabulary(merges), [*merges]))


def _prepared(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer
