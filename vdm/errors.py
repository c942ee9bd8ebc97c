"""The one exception that means: the user's input is wrong, nothing is broken."""


class InputError(ValueError):
    """Bad input: a config field, a flag, a file or an argument.

    The message is one line that names what was wrong, what was found and what is allowed. The
    programs print it without a traceback and exit with status 2 (`vdm.cli.run`).
    """


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
