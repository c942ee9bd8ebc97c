"""A stopwatch for the speed of training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Measures seconds since it was made or restarted, without pauses."""

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
            # After a restart during the pause, only the rest of the pause counts.
            self._paused += time.perf_counter() - max(start, self._start)
