"""What training heeds: its pace, and the signals that ask it to stop."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import jax


class Stopwatch:
    """Seconds since it was made, without the pauses."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start, self._paused = time.perf_counter(), 0.0

    def seconds(self) -> float:
        return time.perf_counter() - self._start - self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            # A restart inside the pause leaves only what came after it to take off.
            self._paused += time.perf_counter() - max(start, self._start)


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list that holds a signal's number once SIGINT or SIGTERM has come; a second one acts at once.

    Of several processes, SIGTERM is the business of jax's preemption service (`parallel.share_signals`), which Ctrl-C
    is passed on to.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    if jax.process_count() > 1:
        previous = {int(signal.SIGINT): signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))}
    else:
        previous = {int(number): signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
