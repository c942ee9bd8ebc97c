"""A program as a process of its own, from its first import to its exit status."""

import sys
from collections.abc import Callable
from typing import NoReturn

from vdm.errors import explained
from vdm.programs import environment, stops, streams


def run(program: Callable[[], int | None]) -> NoReturn:
    """Runs `program`, which imports what takes long itself, and ends with its status.

    What is no bug is one line on stderr: bad input, files, memory and the environment with status 2, a request to stop
    with 128 and the signal's number, whenever it comes. A bug is a traceback, and status 1.
    """
    try:
        streams.begin()
        stops.begin()
        status = _status(program)
        stops.as_ever()
    except KeyboardInterrupt:
        # The only one: `stops` raises no second, so that nothing interrupts the end.
        _leave(130, "interrupted")
    if stops.number():
        _leave(0, "")
    lost, line = streams.end()
    if line:
        _print(line)
    sys.exit(status or lost)


def _status(program: Callable[[], int | None]) -> int:
    """The status that it ends with; what ends it otherwise, and is no bug, ends the process."""
    try:
        environment.begin()
        return program() or 0
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        _leave(1, str(left.code))
    except Exception as error:
        # Whatever libraries made of a request to stop.
        line = "" if stops.number() else _line(error)
        if line is None:
            raise
        _leave(2, line)


def _line(error: BaseException) -> str | None:
    """What is said of an error; None for a bug."""
    return explained(error) or environment.blamed(error)


def _leave(status: int, line: str) -> NoReturn:
    if stops.number():
        status, line = 128 + stops.number(), stops.reason()
    sys.stdout.flush()
    _print(line)
    stops.leave(status)


def _print(line: str) -> None:
    print("error: " + " ".join(line.split()), file=sys.stderr, flush=True)
