"""Arrays from untrusted npz files: read whole and as declared, or refused with a one-line message."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vdm.errors import InputError, one_line
from vdm.files import printable

LIMIT_RATIO = 200
"""Maximum uncompressed bytes of an array per byte in the file, beyond `LIMIT_FREE`.

Pictures compress to about a half; only constant arrays, which no data set has, compress to a thousandth.
"""

LIMIT_FREE = 1 << 26
"""Bytes that an array may have however strongly it is compressed."""


def array_names(path: str | Path) -> list[str]:
    """Return the names of the arrays in an npz file, in order.

    Raises `InputError` for a file that is not an npz file or has an array twice.
    """
    with _opened(Path(path)) as archive:
        return list(_members(archive))


NUMBERS, TEXT = "biufc", "U"
"""NumPy's kinds of dtypes: those of numbers, and that of text."""


def read_npz(path: str | Path, names: Sequence[str] | None = None, kinds: str = NUMBERS) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file by name: those in `names`, or all; numbers only, unless `kinds` includes text.

    For a damaged or malicious file, no more memory is allocated than the file justifies: the size of an array must
    agree between the zip directory and the array's own header, and is limited by its size in the file. Checksums are
    verified. Arrays may have any shape, including ().

    Raises `InputError` naming file and array if the file is missing, damaged or not an npz file, lacks an array, or has
    one that is not an array, holds anything but numbers, or declares more data than there are.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     np.savez_compressed(file.name, images=np.zeros((2, 8, 8), np.uint8), labels=np.array([3, 1]))
    ...     array_names(file.name), read_npz(file.name, ["labels"])
    (['images', 'labels'], {'labels': array([3, 1])})
    """
    path = Path(path)
    with _opened(path) as archive:
        members = _members(archive)
        missing = [] if names is None else [name for name in names if name not in members]
        if missing:
            found = ", ".join(map(repr, members)) or "none"
            raise InputError(f"{printable(path)}: no array {', '.join(map(repr, missing))}; its arrays: {found}")
        # Members that overlap in the file would have a larger total.
        if sum(member.compress_size for member in archive.infolist()) > path.stat().st_size:
            raise InputError(f"{printable(path)}: not a readable npz file: declares more than it holds")
        arrays = {}
        for name in members if names is None else names:
            with _named(f"{printable(path)}: array {name!r}"):
                arrays[name] = _array(archive, members[name], kinds)
        return arrays


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name in members:
            raise ValueError(f"array {name!r} appears twice")
        if name != member.filename:
            members[name] = member
    return members


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kinds: str) -> np.ndarray:
    if member.file_size > LIMIT_FREE + LIMIT_RATIO * member.compress_size:
        raise ValueError(
            f"declares {_bytes(member.file_size)} in {_bytes(member.compress_size)} of the file, "
            "a ratio that real data do not reach; if they are real, save them uncompressed (numpy.savez)"
        )
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        header = file.tell()
    if dtype.kind not in kinds:
        needed = {TEXT: "texts", NUMBERS: "numbers"}.get(kinds, "numbers or texts")
        raise ValueError(f"is of dtype {dtype}; must be {needed}")
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != member.file_size - header:
        raise ValueError(f"declares shape {shape} of {dtype}, but has {_bytes(member.file_size - header)}")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)  # to the last byte, where the checksum is verified


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    shown = printable(path)
    if not path.is_file():
        raise InputError(f"{shown}: {'is not a file' if path.exists() else 'no such file'}")
    with _named(f"{shown}: not a readable npz file"), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn every error that a damaged file can cause into one that names the file and array."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # OSError, ValueError, BadZipFile, zlib.error, RuntimeError, …, depending on the damage
        raise InputError(f"{what}: {one_line(error)}") from error


def _bytes(number: int) -> str:
    """Format a number of bytes: 12 bytes, 3.4 MB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} bytes"
