"""Arrays in safetensors files, which anyone may have written: whole and as declared, or refused in one line.

The format: eight bytes with the size of a header, little-endian; the header, a table in JSON with dtype, shape and
place of each array, and texts about them under `__metadata__`; then the arrays, one after the other without a gap.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vdm.errors import InputError
from vdm.files import printable, replacing
from vdm.reading import field, parse_json, shown

SUFFIX = ".safetensors"

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
"""The format's names of those that NumPy has."""

LONGEST = 100_000_000
"""Bytes of a header."""

METADATA = "__metadata__"


class File(NamedTuple):
    """What is in a safetensors file."""

    arrays: dict[str, np.ndarray]
    """By name: mapped from the file, read-only."""
    metadata: dict[str, str]


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes the file so that a kill leaves either the old one or the new one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "line.safetensors")
    ...     write(path, {"slope": np.float32([[1, 2]])}, {"network": "line"})
    ...     read(path).arrays["slope"].tolist(), read(path).metadata
    ([[1.0, 2.0]], {'network': 'line'})
    """
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)


def read(path: Path) -> File:
    """All arrays of a file.

    Raises `InputError` that names the file if it is missing, no safetensors file or truncated, or if an array is of a
    dtype that NumPy lacks or is not where the header says.
    """
    where = printable(path)
    if not path.is_file():
        raise InputError(f"{where}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as file:
            size, length = path.stat().st_size, int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= LONGEST:
                raise InputError(f"{where}: is not a safetensors file")
            if length > size - 8:
                raise InputError(f"{where}: is truncated, or is not a safetensors file")
            text = file.read(length)
        if not text.startswith(b"{"):
            raise InputError(f"{where}: is not a safetensors file")
        header = parse_json(text, f"{where}: header")
        data = np.memmap(path, np.uint8, "r", offset=8 + length) if size > 8 + length else np.empty(0, np.uint8)
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}") from error
    metadata = field(header, (METADATA,), dict, where, {})
    header.pop(METADATA, None)
    return File(_arrays(header, data, where), {str(name): str(value) for name, value in metadata.items()})


def _arrays(header: dict[str, Any], data: np.ndarray, where: str) -> dict[str, np.ndarray]:
    places = {name: _place(header, name, where) for name in header}
    declared = max((place.end for place in places.values()), default=0)
    if declared != data.nbytes:
        problem = "is truncated" if declared > data.nbytes else "has more than its header says"
        raise InputError(f"{where}: {problem}: {data.nbytes} bytes of arrays, of {declared}")
    end = 0
    for name, place in sorted(places.items(), key=lambda item: item[1].start):
        if place.start != end:
            raise InputError(f"{where}: array {shown(name)} begins at byte {place.start}; must at {end}")
        end = place.end
    return {name: np.ndarray(place.shape, place.dtype, data, place.start) for name, place in places.items()}


class _Place(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def _place(header: dict[str, Any], name: str, where: str) -> _Place:
    shape, offsets = (field(header, (name, key), tuple[int, ...], where) for key in ("shape", "data_offsets"))
    dtype = field(header, (name, "dtype"), str, where)
    if dtype not in DTYPES:
        raise InputError(f"{where}: array {shown(name)} is of dtype {shown(dtype)}; must be of {', '.join(DTYPES)}")
    size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if min(shape, default=0) < 0 or len(offsets) != 2 or offsets[0] < 0 or offsets[1] - offsets[0] != size:
        raise InputError(f"{where}: array {shown(name)} is {dtype} {list(shape)}, but at bytes {list(offsets)}")
    return _Place(np.dtype(DTYPES[dtype]), shape, *offsets)
