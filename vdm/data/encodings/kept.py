"""Cache of the states of captions, in one folder per encoder."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np

from vdm import safetensors
from vdm.errors import InputError
from vdm.files import cache_folder
from vdm.reading import field, parse_json

States = dict[str, np.ndarray]
"""The states of each caption, float32 (1 + tokens, features): row 0 belongs to the whole caption."""

FOLDER = "text"
"""Subfolder of the user's cache."""

CHECKSUM = "sha256"


class Kept:
    """The cached states of one encoder. If the folder is not writable, nothing is kept."""

    def __init__(self, model: str, digest: str):
        self._folder = cache_folder(f"{FOLDER}/{_word(model)}-{digest}")

    def read(self) -> States:
        """Return everything in the cache. Damaged files are deleted, since they can be recomputed."""
        found: States = {}
        for path in sorted(self._folder.glob(f"*{safetensors.SUFFIX}")) if self._folder else ():
            try:
                found.update(_read(path))
            except (InputError, KeyError, ValueError, TypeError):
                path.unlink(missing_ok=True)
        return found

    def add(self, states: States) -> None:
        """Write the states to a new file, atomically."""
        if self._folder is None or not states:
            return
        # As an array, because the size of the header is limited.
        captions = np.frombuffer(json.dumps({"captions": [*states]}).encode(), np.uint8)
        arrays: dict[str, np.ndarray] = {
            "captions": captions,
            "counts": np.array([len(rows) for rows in states.values()], np.int64),
            "rows": np.concatenate([*states.values()]),
        }
        name = hashlib.sha256(captions.tobytes()).hexdigest()[:16]
        safetensors.write(self._folder / f"{name}{safetensors.SUFFIX}", arrays, {CHECKSUM: _checksum(arrays)})


def digests(model: str) -> list[str]:
    """Return the digests of all encoders of this name in the cache."""
    folder = cache_folder(FOLDER)
    files = folder.glob(f"{_word(model)}-*/*{safetensors.SUFFIX}") if folder else ()
    return sorted({path.parent.name.rpartition("-")[2] for path in files})


def _read(path: Path) -> States:
    arrays, metadata = safetensors.read(path)
    if metadata.get(CHECKSUM) != _checksum(arrays):
        raise InputError(f"{path}: is damaged")
    captions = field(parse_json(arrays["captions"].tobytes(), path), "captions", tuple[str, ...], path)
    ends = np.cumsum(arrays["counts"])
    if len(captions) != len(ends) or ends[-1] != len(arrays["rows"]):
        raise InputError(f"{path}: is damaged")
    return dict(zip(captions, np.split(arrays["rows"], ends[:-1]), strict=True))


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    hashed = hashlib.sha256()
    for name in sorted(arrays):
        hashed.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        hashed.update(np.ascontiguousarray(arrays[name]).data)
    return hashed.hexdigest()


def _word(text: str) -> str:
    """Make a text usable as part of a file name."""
    return re.sub(r"[^\w.]", "_", text)
