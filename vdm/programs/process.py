"""A program as a process of its own, from its first import to its exit status."""

import sys
from collections.abc import Callable
from typing import NoReturn

from vdm.errors import InputError, explained
from vdm.programs import environment, stops, streams


def run(program: Callable[[], int | None]) -> NoReturn:
    """Runs `program`, which imports what takes long itself, and ends with its status.

    What is no bug is one line on stderr: bad input, files, memory and the environment with status 2, a request to stop
    with 128 and the signal's number, whenever it comes. A bug is a traceback, and status 1.
    """
    stops.begin()
    streams.begin()
    try:
        environment.begin()
        status = program() or 0
    except SystemExit as left:
        status = _status(left)
    except BaseException as error:
        line = None if stops.number() else _line(error)
        if line is None and not stops.number():
            raise
        _leave(2, line or "")
    if stops.number():
        _leave(0, "")
    stops.as_ever()
    lost, line = streams.end()
    if line:
        _print(line)
    sys.exit(status or lost)


def _line(error: BaseException) -> str | None:
    """What is said of an error; None for a bug."""
    blamed = environment.blamed(error)
    if not isinstance(error, InputError) and blamed is not None:
        return f"{blamed}: {error}"
    return explained(error)


def _leave(status: int, line: str) -> NoReturn:
    if stops.number():
        status, line = 128 + stops.number(), stops.reason()
    sys.stdout.flush()
    _print(line)
    stops.leave(status)


def _print(line: str) -> None:
    print("error: " + " ".join(line.split()), file=sys.stderr, flush=True)


def _status(left: SystemExit) -> int:
    if left.code is None or isinstance(left.code, int):
        return left.code or 0
    print(left.code, file=sys.stderr)
    return 1
