"""Progress of long jobs: progress bars, progress lines and durations."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0
"""Seconds between progress lines where there is no terminal."""


class Report(Protocol):
    """Reports how much of a job is done."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`note` is shown beside the bar."""


@contextmanager
def progress_of(console: Console, description: str) -> Iterator[Report]:
    """Show the progress of a job, as its body reports it by calling the yielded function; may be nested.

    On a terminal this is a progress bar, which disappears at the end. Elsewhere it is a line every
    `SECONDS_BETWEEN_LINES` with the latest report, so that a job with parts of several minutes is not silent. No line
    is printed after an interval in which the note changed, because whoever changes it prints lines of their own.

        with progress_of(console, "sampling") as progress:
            for k in range(10):
                draw(k)
                progress(k + 1, 10)
    """
    with (_bar if console.is_terminal else _lines)(console, description) as report:
        yield report


class Passes:
    """Progress of several passes over images, one after the other, each with its own description.

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
        """Report that `done` of `total` images of the pass `what` are done."""
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

    # Printed by a thread, because the job may be inside one compiled program for minutes.
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield job
    finally:
        over.set()
        thread.join()


class _Job:
    """The latest report of a job, and the times of reports."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int, int] | None = None
        self._note = self._told = ""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            # The pace is measured from here: what came before was compilation, or an earlier session.
            self._first = now, done
        self._last, self._note = (now, done, total), note

    def account(self) -> str:
        """Return e.g. "120/1000, 0:35 left", or the time taken if no pace is known; empty if the note is new."""
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
    """Format seconds as 5:07, or 1:05:07 with hours."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
