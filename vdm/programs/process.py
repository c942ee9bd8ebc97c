"""Run a command as a process of its own, from its first import to its exit status."""

import sys
from collections.abc import Callable
from typing import NoReturn

from vdm.errors import explained
from vdm.programs import environment, stops, streams


def run(program: Callable[[], int | None]) -> NoReturn:
    """Run `program`, which itself imports whatever is slow to import, and exit with its status.

    Errors other than bugs are one line on stderr: bad input, files, memory and the environment exit with status 2, a
    request to stop, at any time, with 128 plus the signal's number. A bug is a traceback, with status 1.
    """
    try:
        streams.begin()
        stops.begin()
        status = _status(program)
        stops.as_ever()
    except KeyboardInterrupt:
        # `stops` raises only one, so nothing interrupts the exit.
        _leave(130, "interrupted")
    if stops.number():
        _leave(0, "")
    lost, line = streams.end()
    if line:
        _print(line)
    sys.exit(status or lost)


def _status(program: Callable[[], int | None]) -> int:
    """Return the program's exit status; for an error other than a bug, exit at once."""
    try:
        environment.begin()
        return program() or 0
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        _leave(1, str(left.code))
    except Exception as error:
        # After a request to stop, any error may be what a library made of the interruption.
        line = "" if stops.number() else _line(error)
        if line is None:
            raise
        _leave(2, line)


def _line(error: BaseException) -> str | None:
    """Return the line that explains an error; None for a bug."""
    return explained(error) or environment.blamed(error)


def _leave(status: int, line: str) -> NoReturn:
    if stops.number():
        status, line = 128 + stops.number(), stops.reason()
    sys.stdout.flush()
    _print(line)
    stops.leave(status)


def _print(line: str) -> None:
    print("error: " + " ".join(line.split()), file=sys.stderr, flush=True)
