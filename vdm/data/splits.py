"""Splitting a user's own data: by names that say so, or by a hash of each example's name."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from vdm.errors import InputError

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval")
"""Names of held-out parts, in any case. The first one that is present becomes the test split."""

SALT = b"vdm: is it of the test split?\0"
TENTH = 2**64 // 10


def is_like_a_split(name: str) -> bool:
    """Whether a word in `name` names a split: train2017, ValImages, my-test; but not trainers or latest."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return any(word.lower() in TRAIN + TEST for word in words)


def named_splits(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the names of the train and the test split among `names`; None unless both exist.

    Raises `InputError` for names that differ only in case, and for more than one train split.

    >>> named_splits(["val", "Train", "test", "extra"])
    ('Train', 'test')
    """
    found: dict[str, str] = {}
    for name in names:
        if (key := name.lower()) in TRAIN + TEST and found.setdefault(key, name) != name:
            raise InputError(f"{found[key]!r} and {name!r} are the same split: keep one")
    train = [found[key] for key in TRAIN if key in found]
    test = [found[key] for key in TEST if key in found]
    if len(train) > 1:
        raise InputError(f"{' and '.join(map(repr, train))} are the same split: keep one")
    return (train[0], test[0]) if train and test else None


def hashed_split(
    keys: Sequence[bytes], labels: Sequence[int] | np.ndarray | None = None, of: str = "image"
) -> tuple[list[int], list[int]]:
    """Return the indices of the train and test splits; about a tenth is test, chosen by a hash of each example's key.

    Adding examples therefore moves no others between the splits, and equal keys stay together. Each split gets at least
    one key; with labels, one of each label that has at least two keys (which key this is may change as long as it is
    the only one). Raises `InputError` for fewer than two different keys; `of` names what they stand for.

    >>> train, test = hashed_split([str(k).encode() for k in range(1000)])
    >>> sorted(train + test) == list(range(1000)), 70 < len(test) < 130
    (True, True)
    """
    hashes = [int.from_bytes(hashlib.sha256(SALT + key).digest()[:8], "big") for key in keys]
    if min(hashes, default=0) == max(hashes, default=0):
        raise InputError(f"{min(len(keys), 1)} {of}; at least 2 are needed to have a train and a test split")
    strata = [0] * len(keys) if labels is None else [int(label) for label in labels]
    of_each: dict[int, list[int]] = defaultdict(list)
    for stratum, value in zip(strata, hashes, strict=True):
        of_each[stratum].append(value)
    # A label with a single key stays in training.
    bounds = {stratum: min(max(TENTH, min(values) + 1), max(values)) for stratum, values in of_each.items()}
    is_test = [value < bounds[stratum] for stratum, value in zip(strata, hashes, strict=True)]
    train, test = ([index for index, here in enumerate(is_test) if here == which] for which in (False, True))
    return train, test
