"""Requests to stop a command at any moment of its life: Ctrl-C, SIGTERM and a closed terminal.

Python raises an exception in the main thread. That exception is lost if it is raised in a callback of the garbage
collector or of C++, and has to wait while a compiled program runs. Here a thread learns of the signal as soon as the
process does, and ends the process if the exception has not ended it after `GRACE` seconds.
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
"""Seconds from a signal to the forced end of the process."""
FAREWELL = 12.0
"""Seconds that ending the process may take; `vdm.parallel.leave` takes up to ten."""
AGAIN = 0.2
"""Seconds from a lost exception to the next one."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPING = "stopping after this step; again to stop now"

_ENDS, _LOST = 0, 255
"""Bytes to the thread that are not signals: the process is to end, and an exception was lost."""

_number = 0
"""The signal that ends the process; 0 until it comes."""
_owed = True
"""Whether the main thread has yet to raise the exception."""
_writer = -1
_request: "_Request | None" = None
"""Set while a first signal only requests a stop (`gracefully`)."""
_leaving = threading.Lock()


def begin() -> None:
    """Handle signals from here on; call it in the main thread, before any slow import."""
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
    """Return the signal that ends the process; 0 if none has come."""
    return _number


def reason() -> str:
    """Return in a word why the process ends, such as "interrupted"."""
    return {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}[
        signal.Signals(_number)
    ]


@contextmanager
def gracefully() -> Iterator[list[int]]:
    """Yield a list that gets the number of the first signal, which prints `STOPPING`; a second signal acts at once.

    If no exception ends the block after the first signal, the signal takes effect at the end of the block. In a thread
    other than the main one, Python handles no signals and the list stays empty. With several processes, SIGTERM is left
    to jax's preemption service (`parallel.share_signals`), and the other signals are passed on to it.
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
    """A first signal that only requests a stop; whichever thread learns of it first prints `STOPPING`."""

    def __init__(self) -> None:
        self.heard = self.said = False

    def say(self) -> None:
        if not self.said:
            self.said = True
            write_line(STOPPING)


def write_line(line: str) -> None:
    """Write to stderr directly, as a hanging thread may hold the locks of Python's streams."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="backslashreplace"))


def leave(status: int, line: str = "") -> NoReturn:
    """End the process at once, with a line on stderr and without waiting for background threads.

    Files must be complete on disk at every moment. If two threads call it, the first one decides the status.
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
    """Restore the operating system's default: from here on signals end the process at once."""
    for number in _heeded():
        signal.signal(number, signal.SIG_DFL)


def _heeded() -> list[signal.Signals]:
    """Return the signals to handle: `SIGNALS`, without SIGHUP if `nohup` made the process ignore it."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise the exception in the main thread, once, and once more for each that was lost.

    During an import the process ends instead: C++ libraries crash on an exception there, and nothing needs cleaning up.
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
    """Tell the thread if the exception was lost in a callback; other uncatchable exceptions do not concern the user."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        os.write(_writer, bytes([_LOST]))


def _watch(reader: int) -> None:
    """Run the thread: read the process's signals until one is to end it, then end it after `GRACE` seconds."""
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
                continue  # a signal that somebody else handles
            elif byte != _ENDS and (request := _request) is not None and not request.heard:
                request.heard = True
                request.say()
            elif deadline is None:
                _number = _number or byte
                deadline = time.monotonic() + GRACE


def _forget() -> None:
    """After a fork, leave signals and the thread to the parent."""
    signal.set_wakeup_fd(-1)
    as_ever()
