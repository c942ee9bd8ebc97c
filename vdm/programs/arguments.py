"""The argument parser of the commands that take no config."""

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from vdm import reading
from vdm.errors import InputError, os_error
from vdm.programs.command_line import Interface, observed
from vdm.programs.help_text import HELP_FULL, HELP_WIDTH, brief
from vdm.reading import shown


class Parser(argparse.ArgumentParser):
    """Parser of the commands without a config.

    --help prints the first paragraph of the description, its first example and the arguments; --helpfull prints the
    whole description. Errors are one line on stderr with exit status 2, as for `run`.
    """

    def __init__(self, prog: str, description: str | None):
        def formatter(prog: str) -> argparse.HelpFormatter:
            return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=HELP_WIDTH)

        # Named as the user called it; actions of `vdm NAME` have names of their own.
        called = sys.argv[0] if sys.argv[0].startswith("vdm ") and not prog.startswith("vdm ") else prog
        super().__init__(prog=called, formatter_class=formatter, allow_abbrev=False, add_help=False)
        self._full = inspect.cleandoc(description or "").replace(prog, called)
        first, example = brief(self._full)
        self.description = f"{first}\n\nexample: {example}"
        self.add_argument("--help", "-h", action="help", help="show this help and exit")
        self.add_argument("--helpfull", action="store_true", help="show the full description and exit")
        for kind, read in ((int, reading.whole), (float, reading.number), (Path, _path)):
            self.register("type", kind, _argument(read))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, but print the full help first if --helpfull is given, even if required arguments are missing."""
        observed(Interface(self))
        if any(argument in HELP_FULL for argument in (sys.argv[1:] if args is None else args)):
            self.description = self._full
            self.print_help()
            self.exit()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        print("error: " + " ".join(message.split()), file=sys.stderr)
        sys.exit(2)

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """Turn an `InputError` or `OSError` raised within into one line on stderr and exit status 2."""
        try:
            yield
        except InputError as error:
            self.error(str(error))
        except OSError as error:
            self.error(os_error(error))


def _argument(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap a reader so that its ValueError becomes an error of argparse."""

    def argument(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{shown(text)}: {error}") from error

    return argument


def _path(text: str) -> Path:
    if not text:
        raise ValueError("must be the name of a file or folder")
    return Path(text)
