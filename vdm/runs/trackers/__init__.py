"""Trackers of training: metrics.jsonl, TensorBoard and Weights & Biases. `config.training.loggers` selects them.

    --config.training.loggers="('tensorboard',\"wandb(project='mine', mode='offline')\")"

metrics.jsonl is always written, whether named or not, because plots, reports and resuming read it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from vdm import parts
from vdm.errors import InputError, is_disk_full, one_line
from vdm.runs.trackers.tracker import Numbers, TrackedRun, Tracker

ALWAYS = "jsonl"


def make(loggers: Sequence[str]) -> dict[str, Tracker]:
    """Construct the trackers that these texts name and return them by name, starting with metrics.jsonl.

    Raises `InputError` for a tracker that is named twice, and `vdm.parts.PartError` for a text that names none.

    >>> list(make(("tensorboard",)))
    ['jsonl', 'tensorboard']
    """
    names = [parts.read("tracker", text).name for text in loggers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"config.training.loggers={tuple(loggers)}: {twice} is listed twice; each may be listed once")
    texts = {ALWAYS: ALWAYS} | dict(zip(names, loggers, strict=True))
    return {name: parts.make("tracker", text) for name, text in texts.items()}


def check(loggers: Sequence[str]) -> None:
    """Raise `InputError` if one of the trackers cannot work here. Nothing is opened."""
    for tracker in make(loggers).values():
        tracker.check()


@contextmanager
def started(loggers: Sequence[str], run: TrackedRun) -> Iterator[list[Tracker]]:
    """Start the trackers of `make` and close them at the end. Only a failure of metrics.jsonl stops training."""
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        for name, tracker in make(loggers).items():
            tracker.start(run)
            kept = tracker if name == ALWAYS else _Forgiven(name, tracker, run.warn)
            stack.callback(kept.close)
            trackers.append(kept)
        yield trackers


class _Forgiven(Tracker):
    """A tracker whose failures do not stop training; the first one is warned of. Errors of a full disk are raised."""

    def __init__(self, name: str, tracker: Tracker, warn: Callable[[str], None]):
        self._name, self._tracker, self._warn = name, tracker, warn
        self._warned = False

    def scalars(self, kind: str, step: int, numbers: Numbers) -> None:
        self._try(lambda: self._tracker.scalars(kind, step, numbers))

    def picture(self, kind: str, step: int, name: str, png: bytes) -> None:
        self._try(lambda: self._tracker.picture(kind, step, name, png))

    def close(self) -> None:
        self._try(self._tracker.close)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # trackers' libraries may raise anything, as when the network fails
            if is_disk_full(error):
                raise
            if not self._warned:
                self._warn(f"tracker {self._name}: {one_line(error)}; training goes on, and may lose what it tracks")
            self._warned = True
