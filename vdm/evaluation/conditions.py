"""What the images of a request are conditioned on: labels by name, or the conditions of test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Integer

from vdm.data.dataset import Source, examples
from vdm.data.selection import order
from vdm.errors import InputError
from vdm.keys import Stream, image_keys, stream_key
from vdm.model import Condition, Model
from vdm.reading import is_whole, shown

ALL, RANDOM, TEST = "all", "random", "test"
MOST_LISTED = 20
"""Classes that a message lists."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of images 0, 1, … of a request; image k's depends on k, and of random labels on the seed, alone.

    Raises `InputError` for labels that are no classes, that the model is not conditioned on, or that are not known.
    """

    model: Model
    labels: str | None
    """`all` classes in turn, those listed in turn, as "3,7,cat", `random` ones, or `test`: the conditions of test
    images. None: all, where labels with names are the whole condition, else those of test images."""
    classes: Sequence[str] | None
    """The labels' names."""
    test: Callable[[], Source]
    """The test images, called only where they are needed."""
    seed: int
    by_classifier: bool = False
    """Whether it is a classifier that leads to the labels: the model may be one without."""

    def __post_init__(self) -> None:
        _ = self._turns

    def __call__(self, num: int, first: int = 0) -> Condition:
        """Of images `first` … `first` + `num` − 1; None of a model without conditions."""
        if self._turns is not None:
            return {"label": self._turns[np.arange(first, first + num) % len(self._turns)]}
        if self._mode == RANDOM:
            assert self.classes is not None
            return {"label": random_labels(self.seed, len(self.classes), num, first)}
        return conditions_of(self.model, self.test(), num, first) if self._mode == TEST else None

    @property
    def rows(self) -> list[str]:
        """Names for a picture with image k in row k modulo their number; none where labels do not go in turn."""
        return [] if self._turns is None or self.classes is None else [self.classes[k] for k in self._turns]

    @property
    def said(self) -> str | None:
        """As a record has them; None of a model without conditions."""
        return self._mode

    @cached_property
    def _mode(self) -> str | None:
        condition = list(self.model.condition) or ["label"] * self.by_classifier
        names = "has no conditions" if not condition else f"is conditioned on {', '.join(map(repr, condition))}"
        alone = condition == ["label"]
        if self.labels is not None and not (alone or (self.labels == TEST and condition)):
            raise InputError(f"sampling.labels={self.labels}: the network {names}; must be conditioned on labels")
        if not condition:
            return None
        if not self.model.condition and self.labels == TEST:
            raise InputError(f"sampling.labels={TEST}: the network has no conditions, only a classifier has labels")
        if self.labels is not None:
            return self.labels
        return ALL if alone and self.classes is not None else TEST

    @cached_property
    def _turns(self) -> Integer[np.ndarray, " labels"] | None:
        """The labels of the first images, which are those of the next again."""
        mode = self._mode
        if mode in (None, TEST):
            return None
        if self.classes is None:
            raise InputError(f"sampling.labels={mode}: the data do not name their classes; must be {TEST}")
        if mode == RANDOM:
            return None
        return np.arange(len(self.classes), dtype=np.int32) if mode == ALL else listed(str(mode), self.classes)


def listed(labels: str, classes: Sequence[str]) -> Integer[np.ndarray, " labels"]:
    """The numbers of labels given as "3,7,cat": each a class's name or, if none has that name, its number.

    Raises `InputError` for what is no class, with those there are.

    >>> listed("cat,0,2", ["dog", "2", "cat"]).tolist()
    [2, 0, 1]
    """
    found = []
    for word in map(str.strip, labels.split(",")):
        if word in classes:
            found.append(list(classes).index(word))
        elif is_whole(word) and int(word) < len(classes):
            found.append(int(word))
        else:
            names = [name if str(k) == name else f"{k} {name}" for k, name in enumerate(classes)]
            others = f", … ({len(names)})" * (len(names) > MOST_LISTED)
            there = ", ".join(names[:MOST_LISTED]) + others
            raise InputError(f"sampling.labels={labels}: no class {shown(word)}; the classes are {there}")
    return np.array(found, np.int32)


def random_labels(seed: int, num_classes: int, num: int, first: int = 0) -> Integer[np.ndarray, " num"]:
    """Labels drawn uniformly for images `first`, …: each from its own key."""
    keys = image_keys(stream_key(seed, Stream.LABELS), num, first)
    return np.asarray(jax.vmap(lambda key: jax.random.randint(key, (), 0, num_classes))(keys))


def conditions_of(model: Model, source: Source, num: int, first: int = 0) -> Condition:
    """The conditions of images `first`, `first` + 1, …: of elements from all over a source, and those again after all.

    They are in the order of `vdm.data.selection`. None for a model without one; then nothing is read.
    """
    if not model.condition:
        return None
    return model.condition_of(examples(source, order(len(source))[np.arange(first, first + num) % len(source)]))
