"""Files that are either complete or absent, and folders for caches."""

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
    """Yield a path beside `path` to write to, and then move that file to `path`.

    If the process is killed or the disk is full, either the old file or the new one is left. A file that could not be
    written leaves nothing behind.
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
    """Hold a lock on a file, waiting for any other program that holds it; the lock file is not deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_writable(folder: Path, flag: str, hint: str = "") -> None:
    """Check by trying, before the work starts, that files can be created in a folder, which need not exist yet.

    Nothing is left behind. Raises `InputError` that names the `flag` and ends with the `hint` if the folder is
    read-only, full, or a file, or if it cannot be created.
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
    """Return the path of the user's cache folder of this name, which may not exist; None without a home folder.

    Cache folders are in VDM_CACHE if it is set, else in `vdm` in the system's cache folder (XDG_CACHE_HOME). Their
    contents can be made again.
    """
    root = os.environ.get("VDM_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vdm"
    )
    folder = Path(root, name)
    return folder if folder.is_absolute() else None


def cache_folder(name: str) -> Path | None:
    """Create the folder of `cache_path` and return it; None if it is not writable."""
    folder = cache_path(name)
    if folder is None:
        return None
    try:
        # Cached programs are run, so nobody else may write here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


def replace_text(path: Path, text: str) -> None:
    """Write a text file atomically: if the process is killed, either the old file or the new one is left."""
    with replacing(path) as partial:
        partial.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically: if the process is killed, either the old file or the new one is left."""
    replace_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder in place of ~ or ~USER; that of an unknown user stays as it is.

    >>> expanded("~nobody_here/a.png")
    PosixPath('~nobody_here/a.png')
    """
    return Path(os.path.expanduser(path))


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as one line of text for any UTF-8 output: bytes that are not printable become \\xe9, \\n, ….

    >>> printable("caf\\udce9\\n.png")
    'caf\\\\xe9\\\\n.png'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
