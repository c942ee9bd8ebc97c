"""The interface of trackers: where the numbers and pictures of a run go while it is trained."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Numbers = Mapping[str, float | None]
"""By name; None where a number is not known, as an error of one draw."""

NO_CURVES = ("sample",)
"""Numbers of records that say how others were made: nobody wants to see them drawn."""


class TrackedRun(NamedTuple):
    """What a tracker is told of the run."""

    path: Path
    """Its folder."""
    step: int
    """Where training goes on: 0 for a new run. Records of later steps, by an earlier session, are made again."""
    hyperparameters: Mapping[str, Any]
    """The config's fields by their dotted names."""
    total: str
    """Name of the number in the final record that runs are compared by: the less the better."""
    warn: Callable[[str], None]
    """Prints a warning of one line."""


class Tracker:
    """Where records go. A tracker of your own overrides `start`, `scalars`, and what else it can show.

        class Printed(Tracker):
            def scalars(self, kind, step, numbers):
                print(kind, step, dict(numbers))

        vdm.parts.register("tracker", "printed", Printed)

    Constructors only keep their arguments: what opens files or connections belongs in `start`. Of several processes,
    the first alone has trackers. Training stops for no exception of `scalars`, `picture` and `close`, unless the disk
    is full: it warns of the first.
    """

    def check(self) -> None:
        """Raises `InputError` where it cannot work here, as without a package; before data are read."""

    def start(self, run: TrackedRun) -> None:
        """Called once, before any record: the run begins, or goes on from `run.step`. Takes its hyperparameters.

        Raises `InputError` where it cannot be opened; training then does not start.
        """

    def scalars(self, kind: str, step: int, numbers: Numbers) -> None:
        """A record: kind is "train", "evaluation" (while training), "final" or a hook's own word."""

    def picture(self, kind: str, step: int, name: str, png: bytes) -> None:
        """An image or a figure, as a PNG file; its name is the same at every step."""

    def close(self) -> None:
        """After the last record, or where training stops. It may be called after a failure."""


def group(kind: str) -> str:
    """What the records of a kind are called beside those of others: "evaluation", while training, is "test".

    >>> group("train"), group("evaluation")
    ('train', 'test')
    """
    return {"evaluation": "test"}.get(kind, kind)


def curves(numbers: Numbers) -> dict[str, float]:
    """The numbers that have a curve: those that are known.

    >>> curves({"bits_per_dim": 2.5, "stderr": None})
    {'bits_per_dim': 2.5}
    """
    return {name: value for name, value in numbers.items() if value is not None and name not in NO_CURVES}
