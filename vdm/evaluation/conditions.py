"""The conditions of the images in a request: labels by name, captions, or the conditions of test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Integer

from vdm import parts
from vdm.config import SamplingConfig
from vdm.data.dataset import Source, examples
from vdm.data.selection import order
from vdm.data.texts import Text
from vdm.errors import InputError
from vdm.evaluation import texts
from vdm.guides import LABEL, TEXT, Guide, needed
from vdm.keys import Stream, image_keys, stream_key
from vdm.model import Condition, Model
from vdm.reading import is_whole, shown

ALL, RANDOM, TEST = "all", "random", "test"
MOST_ROWS = 16
"""Maximum number of captions shown beside the rows of a picture; with more, each image has its own below."""
MOST_LISTED = 20
"""Maximum number of classes listed in a message."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of images 0, 1, … of a request.

        Conditions(run.model, None, run.classes, lambda: run.dataset.test, 0, captions=("a seven",), text=run.text)

    Those of image k depend only on k and, for random labels, on the seed. Raises `InputError` for labels that are not
    classes, for captions that are empty or longer than the encoding, and for labels or captions that the model is not
    conditioned on or that are not known.
    """

    model: Model
    labels: str | None
    """Labels: "all" in turn; a list to use in turn, such as "3,7,cat"; "random"; or "test".

    "test" takes all conditions from test images. None means "all" if labels with names are the only condition,
    otherwise "test".
    """
    classes: Sequence[str] | None
    """Names of the labels."""
    test: Callable[[], Source]
    """Returns the test images; called only if they are needed."""
    seed: int
    leads: str = ""
    """The entry that the guidance's companion steers toward, such as a classifier's "label".

    The model itself need not have it.
    """
    captions: Sequence[str] = ()
    """Captions, used in turn. If empty, a model with captions gets those of test images."""
    text: Text | None = None
    """Encodes the captions."""

    def __post_init__(self) -> None:
        self._check()
        _ = self._turns, self._encoded

    def __call__(self, num: int, first: int = 0) -> Condition:
        """Return the condition of images `first` … `first` + `num` − 1; None for a model without conditions."""
        numbers = np.arange(first, first + num)
        found: dict[str, np.ndarray] = {}
        if self._encoded is not None:
            found[TEXT] = self._encoded[numbers % len(self._encoded)]
        if self._turns is not None:
            found[LABEL] = self._turns[numbers % len(self._turns)]
        elif self._mode == RANDOM:
            assert self.classes is not None
            found[LABEL] = random_labels(self.seed, len(self.classes), num, first)
        if found:
            return found
        return conditions_of(self.model, self.test(), num, first) if self._mode == TEST else None

    @property
    def rows(self) -> list[str]:
        """Row names for a picture, with image k in row k modulo their number.

        Empty if the images have no names, if there is only one caption, or if there are too many.
        """
        if self.captions:
            several = 1 < len(self.captions) <= MOST_ROWS
            return [texts.shortened(caption) for caption in self.captions] if several else []
        return [] if self._turns is None or self.classes is None else [self.classes[k] for k in self._turns]

    def names(self, num: int) -> list[str]:
        """Return the full captions of the first images; empty for a model without captions."""
        if self.captions:
            return [self.captions[k % len(self.captions)] for k in range(num)]
        if self._mode != TEST or TEXT not in self.model.condition:
            return []
        source = self.test()
        return texts.captions_of_images(source, order(len(source))[np.arange(num) % len(source)])

    @property
    def said(self) -> str | None:
        """The labels as records have them. None for a model without conditions, and for given captions."""
        return self._mode

    def _check(self) -> None:
        condition, labels, captions = self._needed, self.labels, bool(self.captions)
        names = "has no conditions" if not condition else f"is conditioned on {', '.join(map(repr, condition))}"
        if captions and TEXT not in condition:
            raise InputError(f"sampling.text: the network {names}; must be conditioned on text")
        if captions and LABEL in condition and labels in (None, TEST):
            raise InputError(f"sampling.text: the network {names}; must go with sampling.labels, other than test")
        given = {LABEL: labels is not None, TEXT: captions}
        every = all(given.get(name, False) for name in condition)
        if labels is not None and not (LABEL in condition and every) and not (labels == TEST and condition):
            raise InputError(f"sampling.labels={labels}: the network {names}; must be conditioned on labels")
        if condition != list(self.model.condition) and self._mode == TEST:
            own = ", ".join(self.model.condition)
            has = f"is conditioned on {own}" if own else "has no conditions"
            if labels and self.leads == LABEL:
                raise InputError(f"sampling.labels={TEST}: the network {has}, only a classifier has labels")
            field = "labels" if self.leads == LABEL else "text"
            raise InputError(
                f"sampling.{field}: the network {has}, the guidance steers toward {self.leads}: must be given"
            )

    @property
    def _needed(self) -> list[str]:
        """The entries of the condition."""
        return needed(self.model, self.leads)

    @cached_property
    def _mode(self) -> str | None:
        condition = self._needed
        if not condition or self.labels is not None:
            return self.labels
        if self.captions:
            return None
        return ALL if condition == [LABEL] and self.classes is not None else TEST

    @cached_property
    def _turns(self) -> Integer[np.ndarray, " labels"] | None:
        """The labels of the first images, which then repeat."""
        mode = self._mode
        if mode in (None, TEST):
            return None
        if self.classes is None:
            raise InputError(f"sampling.labels={mode}: the data do not name their classes; must be {TEST}")
        if mode == RANDOM:
            return None
        return np.arange(len(self.classes), dtype=np.int32) if mode == ALL else listed(str(mode), self.classes)

    @cached_property
    def _encoded(self) -> np.ndarray | None:
        """The captions, encoded for the network."""
        if not self.captions:
            return None
        if self.text is None:
            raise InputError("sampling.text: nothing says how the captions of the training images were encoded")
        try:
            return texts.encode(self.text, self.captions)
        except InputError as error:
            raise InputError(f"sampling.text: {error}") from error


def requested(
    model: Model,
    sampling: SamplingConfig,
    seed: int,
    classes: Sequence[str] | None,
    test: Callable[[], Source],
    text: Text | None,
) -> Conditions:
    """Return the conditions that the settings' labels, text and guidance ask for.

    Raises `InputError` as `Conditions` does.
    """
    guide: Guide = parts.make("guidance", sampling.guidance)
    captions = texts.captions_of_lines(sampling.text or "")
    return Conditions(model, sampling.labels, classes, test, seed, guide.leads, captions, text)


def listed(labels: str, classes: Sequence[str]) -> Integer[np.ndarray, " labels"]:
    """Return the numbers of labels given as "3,7,cat": each is a class's name or, failing that, its number.

    Raises `InputError` for anything else; the message lists the classes.

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
    """Draw labels uniformly for images `first`, …, each from its own key."""
    keys = image_keys(stream_key(seed, Stream.LABELS), num, first)
    return np.asarray(jax.vmap(lambda key: jax.random.randint(key, (), 0, num_classes))(keys))


def conditions_of(model: Model, source: Source, num: int, first: int = 0) -> Condition:
    """Return the conditions of images `first`, `first` + 1, …: those of elements spread over a source, then repeated.

    They are in the order of `vdm.data.selection`. For a model without conditions, returns None and reads nothing.
    """
    if not model.condition:
        return None
    return model.condition_of(examples(source, order(len(source))[np.arange(first, first + num) % len(source)]))
