"""Files that are whole or not there."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vdm.errors import InputError

PROBE = 1 << 16
"""Bytes that a folder must have room for."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which then takes its place.

    A kill or a full disk leaves either the old file or the new one; of a file that could not be written nothing.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Waits for another program that makes the same, and keeps others waiting: of one lock file, which stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_writable(folder: Path, flag: str, hint: str = "") -> None:
    """Finds out before the work whether files can be made in a folder, which need not be there: tries it.

    Nothing stays. Raises `InputError` that names the `flag`, and ends with the `hint`, if it is read-only, full, or a
    file, or if it cannot be made.
    """
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{flag}: cannot write to {folder}: {error.strerror}{hint}") from error


def cache_path(name: str) -> Path | None:
    """Where the user's own folder of this name for what can be made again is, or would be; None without a home.

    VDM_CACHE says where such folders are; else they are in `vdm` of the system's place for caches (XDG_CACHE_HOME).
    """
    root = os.environ.get("VDM_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vdm"
    )
    folder = Path(root, name)
    return folder if folder.is_absolute() else None


def cache_folder(name: str) -> Path | None:
    """The folder of `cache_path`, made; None if it cannot be written."""
    folder = cache_path(name)
    if folder is None:
        return None
    try:
        # Who writes there decides what is run: nobody else may.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


def replace_text(path: Path, text: str) -> None:
    """Writes `text` so that a kill leaves either the old file or the new one."""
    with replacing(path) as partial:
        partial.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` so that a kill leaves either the old file or the new one."""
    replace_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text of one line that any UTF-8 output takes: other bytes of its name are written as \\xe9, \\n, ….

    >>> printable("caf\\udce9\\n.png")
    'caf\\\\xe9\\\\n.png'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
