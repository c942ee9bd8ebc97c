"""How long jobs tell how far they are: progress bars, lines and times."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0
"""Where there is no terminal."""


class Report(Protocol):
    """Says how much of a job is done."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`note` is shown beside the bar."""


@contextmanager
def progress_of(console: Console, description: str) -> Iterator[Report]:
    """How far a job is, as its body calls the yielded function; may be nested.

    On a terminal a bar, which goes when the job is over. Elsewhere a line every `SECONDS_BETWEEN_LINES`, of whatever
    was said last, so that a job whose parts take minutes is not silent; none in a span in which the note changed, for
    who changes it prints lines of its own.

        with progress_of(console, "sampling") as progress:
            for k in range(10):
                draw(k)
                progress(k + 1, 10)
    """
    with (_bar if console.is_terminal else _lines)(console, description) as report:
        yield report


class Passes:
    """Several passes over images, of which each says what it does: a line of progress for one after the other.

        with Passes(console) as passes:
            passes("features of samples", 64, 1000)

    May be entered again.
    """

    def __init__(self, console: Console):
        self._console, self._shown = console, ExitStack()
        self._what = ""
        self._report: Report | None = None

    def __enter__(self) -> "Passes":
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()
        self._report = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """`done` of `total` images of the pass `what`."""
        if self._report is None or what != self._what:
            self._shown.close()
            self._what, self._report = what, self._shown.enter_context(progress_of(self._console, what))
        self._report(done, total)


@contextmanager
def _bar(console: Console, description: str) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield report


@contextmanager
def _lines(console: Console, description: str) -> Iterator[Report]:
    job, over = _Job(), threading.Event()

    def tell() -> None:
        while not over.wait(SECONDS_BETWEEN_LINES):
            if account := job.account():
                console.print(f"{description}: {account}", markup=False, soft_wrap=True)

    # A thread, since the job itself may be inside one compiled program for minutes.
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield job
    finally:
        over.set()
        thread.join()


class _Job:
    """What was said of a job, and when."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int, int] | None = None
        self._note = self._told = ""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            # The pace counts from here: what came before was compiling, or done in an earlier session.
            self._first = now, done
        self._last, self._note = (now, done, total), note

    def account(self) -> str:
        """120/1000, 0:35 left; or how long it has taken, where no pace is known. Empty where the note is a new one."""
        known, self._told = self._told == self._note, self._note
        if not known:
            return ""
        so_far = f"{duration(time.monotonic() - self._start)} so far"
        if self._first is None or self._last is None:
            return so_far
        (start, before), (last, done, total) = self._first, self._last
        left = so_far if done == before else f"{duration((total - done) * (last - start) / (done - before))} left"
        return f"{done}/{total}, {left}"


def duration(seconds: float) -> str:
    """5:07, or 1:05:07 with hours."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
