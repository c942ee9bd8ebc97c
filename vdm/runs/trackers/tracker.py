"""The interface of trackers, which receive the numbers and pictures of a run during training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Numbers = Mapping[str, float | None]
"""Numbers by name; None for a number that is not known, such as the standard error of a single draw."""

NO_CURVES = ("sample",)
"""Numbers in records that describe how others were measured; they are not drawn as curves."""


class TrackedRun(NamedTuple):
    """Information about the run that is passed to a tracker."""

    path: Path
    """Folder of the run."""
    step: int
    """Step that training resumes from; 0 for a new run. Later records of an earlier session will be made again."""
    hyperparameters: Mapping[str, Any]
    """The config's fields by their dotted names."""
    total: str
    """Name of the number in the final record by which runs are compared; lower is better."""
    warn: Callable[[str], None]
    """Function that prints a one-line warning."""


class Tracker:
    """Base class of trackers. A tracker of your own overrides `start`, `scalars` and whatever else it supports.

        class Printed(Tracker):
            def scalars(self, kind, step, numbers):
                print(kind, step, dict(numbers))

        vdm.parts.register("tracker", "printed", Printed)

    Constructors only store their arguments; open files and connections in `start`. If there are several processes, only
    the first one has trackers. Exceptions in `scalars`, `picture` and `close` do not stop training unless the disk is
    full; the first one is printed as a warning.
    """

    def check(self) -> None:
        """Raise `InputError` if the tracker cannot work here, e.g. without a package. Called before data are read."""

    def start(self, run: TrackedRun) -> None:
        """Begin the run, or resume it from `run.step`, and log its hyperparameters. Called once, before any record.

        Raises `InputError` if the tracker cannot be opened; training then does not start.
        """

    def scalars(self, kind: str, step: int, numbers: Numbers) -> None:
        """Log one record. `kind` is "train", "evaluation" (during training), "final" or a name that a hook chose."""

    def picture(self, kind: str, step: int, name: str, png: bytes) -> None:
        """Log an image or figure, given as the bytes of a PNG file; its name is the same at every step."""

    def close(self) -> None:
        """Finish after the last record, or when training stops. It may be called after a failure."""


def group(kind: str) -> str:
    """Return the group that a kind of record is shown under: "test" for evaluations during training, or else its name.

    >>> group("train"), group("evaluation")
    ('train', 'test')
    """
    return {"evaluation": "test"}.get(kind, kind)


def curves(numbers: Numbers) -> dict[str, float]:
    """Return the numbers to draw as curves: those that are known and not in `NO_CURVES`.

    >>> curves({"bits_per_dim": 2.5, "stderr": None})
    {'bits_per_dim': 2.5}
    """
    return {name: value for name, value in numbers.items() if value is not None and name not in NO_CURVES}
