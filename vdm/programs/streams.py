"""Output streams that never make a command fail, in any encoding, and the console that writes to them."""

import codecs
import errno
import io
import os
import select
import sys
import unicodedata
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LEAST_WIDTH = 40
"""Least width of the console in columns, for tables."""

_PLAIN = {"±": "+-", "∞": "inf", "…": "...", "–": "-", "—": "-", "−": "-", "×": "x", "·": "*", "√": "sqrt", "≤": "<=",
          "≥": ">=", "‖": "|", "→": "->", "’": "'", "\N{COMBINING CIRCUMFLEX ACCENT}": "_hat", "∇": "grad", "∝": "~",
          "█": "#", "━": "-"}  # fmt: skip


class _Kept(io.FileIO):
    """A file to which every write succeeds: what cannot be written is dropped; the first error is kept as `failure`."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:
                # The file is a full non-blocking pipe.
                select.select([], [self], [])
            return written
        except OSError as error:
            self.failure = self.failure or error
            return len(data)


_stdout: _Kept | None = None


def begin() -> None:
    """Open closed standard streams, so that no other file takes their numbers, and make writes to them never fail."""
    global _stdout
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    codecs.register_error("vdm.plain", _plain)
    _stdout, sys.stdout = _stream(1, sys.stdout)
    _, sys.stderr = _stream(2, sys.stderr)


def end() -> tuple[int, str]:
    """Return the exit status of a finished command, and why it is not 0: some of what it printed was lost."""
    if _stdout is None:
        return 0, ""
    sys.stdout.flush()
    failure = _stdout.failure
    if failure is None:
        return 0, ""
    if failure.errno == errno.EPIPE:
        # The shell's status for SIGPIPE: the reader closed the pipe, having seen enough.
        return 141, ""
    return 2, f"what was printed is lost: stdout: {failure.strerror}"


def make_console(quiet: bool = False) -> "Console":
    """Return a console that prints text as it is: no markup (paths may have brackets), no emoji, no line breaks."""
    from rich.console import Console

    make = partial(Console, highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=quiet)
    console = make()
    return console if console.width >= LEAST_WIDTH else make(width=LEAST_WIDTH)


def _stream(descriptor: int, old: Any) -> tuple[_Kept, io.TextIOWrapper]:
    if old is not None:
        old.flush()
    raw = _Kept(descriptor, "w", closefd=False)
    encoding = "utf-8" if old is None else old.encoding
    return raw, io.TextIOWrapper(io.BufferedWriter(raw), encoding, "vdm.plain", line_buffering=True)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the encoding of a stream lacks; an error handler for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain_one, error.object[error.start : error.end])), error.end


def _plain_one(character: str) -> str:
    name = unicodedata.name(character, "")
    if character in _PLAIN:
        return _PLAIN[character]
    if name.startswith("GREEK SMALL LETTER "):
        return name.split()[-1].lower()
    if name.startswith(("SUBSCRIPT ", "SUPERSCRIPT ")):
        return unicodedata.normalize("NFKC", character)
    if name.startswith("BOX DRAWINGS"):
        return "|" if "VERTICAL" in name else "-"
    # An escape that a user can type again, as for file names.
    return character.encode("ascii", "backslashreplace").decode()
