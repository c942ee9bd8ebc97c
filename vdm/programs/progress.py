"""What training shows: its pace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


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
