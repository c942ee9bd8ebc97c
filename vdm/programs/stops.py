"""How a program heeds requests to stop: Ctrl-C, SIGTERM and a closed terminal, at any moment of its life.

Python's own way is an exception in the main thread. That gets lost where it is raised in a callback of the garbage
collector or of C++, and waits while a compiled program runs. Here a thread hears of the signal as soon as the process
does, and ends the process if the exception has not done so after `GRACE` seconds.
"""

import _thread
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

GRACE = 3.0
"""Seconds from a signal to the end of the process."""
FAREWELL = 12.0
"""Seconds that the end itself may take: `vdm.parallel.leave` is given ten."""
AGAIN = 0.2
"""Seconds from an exception that was lost to the next."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPING = "stopping after this step; again to stop now"

_ENDS, _LOST = 0, 255
"""Bytes to the thread that are no signals: the process is to end, and the exception was lost."""

_number = 0
"""The signal that ends the process, once one has come."""
_owed = True
"""Whether the main thread is still to raise the exception."""
_writer = -1
_request: "_Request | None" = None
"""While the first signal is a request, and no more."""
_leaving = threading.Lock()


def begin() -> None:
    """Heeds signals from here on, in the main thread of a program: before any import that takes long."""
    global _writer
    reader, _writer = os.pipe()
    os.set_blocking(_writer, False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    signal.set_wakeup_fd(_writer, warn_on_full_buffer=False)
    for number in _heeded():
        signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable
    os.register_at_fork(after_in_child=_forget)


def number() -> int:
    """The signal that ends the process, 0 if none has come."""
    return _number


def reason() -> str:
    """The same in a word."""
    return {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}[
        signal.Signals(_number)
    ]


@contextmanager
def gracefully() -> Iterator[list[int]]:
    """A list that holds a signal's number once one has come, which says `STOPPING`; a second one acts at once.

    A signal that came and that no exception answered acts at the end. In other threads than the main one, Python knows
    no signals: the list stays empty. Of several processes, SIGTERM is the business of jax's preemption service
    (`parallel.share_signals`), which the other signals are passed on to.
    """
    global _request  # noqa: PLW0603
    import jax

    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = _heeded()
    several = jax.process_count() > 1
    if several:
        numbers.remove(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if not several:
            received.append(number)
        request.say()
        restore()
        if several:
            signal.raise_signal(signal.SIGTERM)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    _request = request = _Request()
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield received
    finally:
        restore()
        _request = None
    if received:
        signal.raise_signal(received[0])


class _Request:
    """A signal that is a request: what the thread knows of it, and what was said, by whichever thread is first."""

    def __init__(self) -> None:
        self.heard = self.said = False

    def say(self) -> None:
        if not self.said:
            self.said = True
            write_line(STOPPING)


def write_line(line: str) -> None:
    """To stderr, past the locks of Python's streams, which a thread that hangs may hold."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))


def leave(status: int, line: str = "") -> NoReturn:
    """Ends the process at once, with a line on stderr, and without a farewell from threads in the background.

    What is open must be whole on the disk at every moment. Of two threads that call it, the first counts.
    """
    if not _leaving.acquire(blocking=False):
        time.sleep(FAREWELL)
        os._exit(status)
    if threading.current_thread() is threading.main_thread():
        as_ever()
    if line:
        write_line(line)
    parallel: Any = sys.modules.get("vdm.parallel")
    if parallel is not None and hasattr(parallel, "leave"):
        parallel.leave()
    os._exit(status)


def as_ever() -> None:
    """From here on signals end the process at once, in the operating system's way."""
    for number in _heeded():
        signal.signal(number, signal.SIG_DFL)


def _heeded() -> list[signal.Signals]:
    """`nohup` ignores SIGHUP, and means it."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def _interrupt(number: int, frame: FrameType | None) -> None:
    """In the main thread: the exception, once, and once more for each that was lost.

    None while a module is imported: there libraries of C++ crash of one, and there is nothing to clean up.
    """
    global _number, _owed  # noqa: PLW0603
    _number = _number or number
    if _imports(frame):
        leave(128 + _number, f"error: {reason()}")
    os.write(_writer, bytes([_ENDS]))
    if _owed:
        _owed = False
        raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _unraisable(unraisable: Any) -> None:
    """Of exceptions that nobody can catch, in callbacks: of ours the thread is told, others are no news to a user."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        os.write(_writer, bytes([_LOST]))


def _watch(reader: int) -> None:
    """The thread: reads the numbers of the signals that the process gets, until one is to end it; then sees to it."""
    global _number, _owed  # noqa: PLW0603
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        if left == 0:
            if os.isatty(1):
                os.write(1, b"\x1b[?25h")  # the cursor, which a progress bar hides
            leave(128 + _number, f"error: {reason()}")
        if not select.select([reader], [], [], left)[0]:
            continue
        for byte in os.read(reader, 64):
            if byte == _LOST:
                time.sleep(AGAIN)
                _owed = True
                _thread.interrupt_main()
            elif byte not in (_ENDS, *SIGNALS):
                continue  # one that has a handler of somebody else's
            elif byte != _ENDS and (request := _request) is not None and not request.heard:
                request.heard = True
                request.say()
            elif deadline is None:
                _number = _number or byte
                deadline = time.monotonic() + GRACE


def _forget() -> None:
    """In a child: the signals are the parent's business, and so is its thread."""
    signal.set_wakeup_fd(-1)
    as_ever()
