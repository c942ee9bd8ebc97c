"""Exceptions that end a program without anything being broken: wrong input, and a request to stop."""


class InputError(ValueError):
    """Bad input: a config field, a flag, a file or an argument.

    The message is one line that names what was wrong, what was found and what is allowed. The
    programs print it without a traceback and exit with status 2 (`vdm.programs.command_line.run`).
    """


class Stopped(Exception):
    """The run was asked to stop by a signal and has saved a checkpoint."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped at step {step}")
        self.signal_number = signal_number


class NonFiniteError(InputError):
    """A loss term or gradient is NaN or infinite: the run stops, its last good checkpoint is kept."""


class WorkerDied(InputError):
    """A process that reads data ended before its time."""


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is that of a full disk."""
    while error is not None:
        text = str(error)
        if "No space left" in text or "File too large" in text or "quota exceeded" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
