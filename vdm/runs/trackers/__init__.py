"""Trackers: metrics.jsonl, TensorBoard, Weights & Biases, one a file; `config.training.loggers` names them.

    --config.training.loggers="('tensorboard',\"wandb(project='mine', mode='offline')\")"

metrics.jsonl is written whether it is named or not: plots, reports and resuming read it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from vdm import parts
from vdm.errors import InputError, is_disk_full, one_line
from vdm.runs.trackers.tracker import Numbers, TrackedRun, Tracker

ALWAYS = "jsonl"


def make(loggers: Sequence[str]) -> dict[str, Tracker]:
    """The trackers of these texts by name, that of metrics.jsonl first.

    Raises `InputError` for a name that is there twice, and `vdm.parts.PartError` for what names none.

    >>> list(make(("tensorboard",)))
    ['jsonl', 'tensorboard']
    """
    names = [parts.read("tracker", text).name for text in loggers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"config.training.loggers={tuple(loggers)}: {twice} is there twice; each may be there once")
    texts = {ALWAYS: ALWAYS} | dict(zip(names, loggers, strict=True))
    return {name: parts.make("tracker", text) for name, text in texts.items()}


def check(loggers: Sequence[str]) -> None:
    """Raises `InputError` where one of them cannot work here; nothing is opened."""
    for tracker in make(loggers).values():
        tracker.check()


@contextmanager
def started(loggers: Sequence[str], run: TrackedRun) -> Iterator[list[Tracker]]:
    """Those of `make`, started; closed at the end. All but metrics.jsonl fail without stopping anything."""
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        for name, tracker in make(loggers).items():
            tracker.start(run)
            kept = tracker if name == ALWAYS else _Forgiven(name, tracker, run.warn)
            stack.callback(kept.close)
            trackers.append(kept)
        yield trackers


class _Forgiven(Tracker):
    """A tracker whose failures do not stop training; the first is warned of. A full disk is not its own failure."""

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
        except Exception as error:  # of any library, of the network
            if is_disk_full(error):
                raise
            if not self._warned:
                self._warn(f"tracker {self._name}: {one_line(error)}; training goes on, and may lose what it tracks")
            self._warned = True
