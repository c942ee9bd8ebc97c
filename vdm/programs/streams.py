"""What a program prints to: streams that never end its work, in any encoding, and the console that writes on them."""

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
"""Columns that tables are given at least."""

_PLAIN = {"±": "+-", "∞": "inf", "…": "...", "–": "-", "—": "-", "−": "-", "×": "x", "·": "*", "√": "sqrt", "≤": "<=",
          "≥": ">=", "‖": "|", "→": "->", "’": "'", "\N{COMBINING CIRCUMFLEX ACCENT}": "_hat", "∇": "grad", "∝": "~",
          "█": "#", "━": "-"}  # fmt: skip


class _Kept(io.FileIO):
    """A file that takes everything: what cannot be written is dropped, and remembered as `failure`."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (written := super().write(data)) is None:
                # A pipe that does not block, and is full.
                select.select([], [self], [])
            return written
        except OSError as error:
            self.failure = self.failure or error
            return len(data)


_stdout: _Kept | None = None


def begin() -> None:
    """Opens the streams that are closed, so that no other file gets their place, and lets nothing written fail."""
    global _stdout
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    codecs.register_error("vdm.plain", _plain)
    _stdout, sys.stdout = _stream(1, sys.stdout)
    _, sys.stderr = _stream(2, sys.stderr)


def end() -> tuple[int, str]:
    """Exit status, and a line on why, of a program that has done all: not 0 where what it printed is lost."""
    if _stdout is None:
        return 0, ""
    sys.stdout.flush()
    failure = _stdout.failure
    if failure is None:
        return 0, ""
    if failure.errno == errno.EPIPE:
        # As the shell has it of programs that SIGPIPE ends: the reader has seen enough.
        return 141, ""
    return 2, f"what was printed is lost: stdout: {failure.strerror}"


def make_console(quiet: bool = False) -> "Console":
    """A console that prints text as it stands: no markup in the brackets of a path, no emoji, no breaks of lines."""
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
    """What stands for characters that the encoding of a stream has not."""
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
    # As it can be typed again: a name of a file.
    return character.encode("ascii", "backslashreplace").decode()
