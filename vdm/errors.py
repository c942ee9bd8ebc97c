"""Exceptions that end a program although nothing is broken: invalid input, and a request to stop."""

import errno
import os
from collections.abc import Iterator


class InputError(ValueError):
    """Invalid input: a config field, a flag, a file or an argument.

    The message is one line that names what was wrong, what was found and what is allowed. The programs print it without
    a traceback and exit with status 2 (`vdm.programs.process`).
    """


class Stopped(Exception):
    """The run was asked to stop by a signal, and has saved a checkpoint."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped at step {step}")
        self.signal_number = signal_number


class NonFiniteError(InputError):
    """A loss term or gradient is NaN or infinite: the run stops and keeps its last good checkpoint."""


class WorkerDied(InputError):
    """A process that reads data ended prematurely."""


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is that of a full disk."""
    return error is not None and _says(error, "No space left", "File too large", "quota exceeded")


def explained(error: BaseException) -> str | None:
    """Return one line that explains an error that is not a bug (bad input, files, memory); None for other errors."""
    line = None
    if isinstance(error, InputError):
        line = str(error)
    elif is_disk_full(error):
        line = "the disk is full"
    elif _says(error, os.strerror(errno.EMFILE)):
        line = "too many open files; raise the limit, as with `ulimit -n 4096`"
    elif isinstance(error, OSError):
        # About files that the user named: a bug in vdm would not be an OSError.
        line = os_error(error)
    elif isinstance(error, MemoryError):
        line = "out of memory"
    elif isinstance(error, RecursionError):
        line = f"nested too deeply: {one_line(error)}"
    elif _says(error, "RESOURCE_EXHAUSTED"):
        line = f"out of memory of a device: {one_line(error)[:160]}"
    return line


def os_error(error: OSError) -> str:
    """Return "FILE: what is wrong with it"."""
    return f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")


def _says(error: BaseException, *texts: str) -> bool:
    """Whether the message of an error, or of one of its causes, contains one of these texts."""
    return any(text in str(one) for one in _causes(error) for text in texts)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
