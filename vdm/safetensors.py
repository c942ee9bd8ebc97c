"""Arrays in untrusted safetensors files: read whole and as declared, or refused with a one-line message."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vdm.errors import InputError, one_line
from vdm.files import printable, replacing

SUFFIX = ".safetensors"


class File(NamedTuple):
    """Contents of a safetensors file."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write a file atomically: if the process is killed, either the old file or the new one is left.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "line.safetensors")
    ...     write(path, {"slope": np.float32([[1, 2]])}, {"network": "line"})
    ...     read(path).arrays["slope"].tolist(), read(path).metadata
    ([[1.0, 2.0]], {'network': 'line'})
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with replacing(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode
        save_file(contiguous, partial, dict(metadata or {}))
        partial.chmod(mode)  # the library makes the file readable by its owner only


def read(path: Path) -> File:
    """Read all arrays of a file.

    Raises `InputError` naming the file if it is missing, truncated, not a safetensors file, or inconsistent with its
    header.
    """
    where = printable(path)
    if not path.is_file():
        raise InputError(f"{where}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        with safe_open(path, framework="numpy") as file:
            return File({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, TypeError, ValueError) as error:
        raise InputError(f"{where}: is not a whole safetensors file ({one_line(error)})") from error
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}") from error
