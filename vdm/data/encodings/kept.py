"""States of captions that were computed before, in files of their own folder: one for each encoder."""

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
"""Of each caption float32 (1 + tokens, features): row 0 is of the whole."""

FOLDER = "text"
"""In the user's folder for what can be made again."""

CHECKSUM = "sha256"


class Kept:
    """The states that one encoder gives. Where no file can be written, nothing is kept."""

    def __init__(self, model: str, digest: str):
        self._folder = cache_folder(f"{FOLDER}/{_word(model)}-{digest}")

    def read(self) -> States:
        """All that there are. A file that is damaged is deleted: it can be made again."""
        found: States = {}
        for path in sorted(self._folder.glob(f"*{safetensors.SUFFIX}")) if self._folder else ():
            try:
                found.update(_read(path))
            except (InputError, KeyError, ValueError, TypeError):
                path.unlink(missing_ok=True)
        return found

    def add(self, states: States) -> None:
        """In a file of their own, whole or not there."""
        if self._folder is None or not states:
            return
        # Text of whatever length: the header of such a file has a limit.
        captions = np.frombuffer(json.dumps({"captions": [*states]}).encode(), np.uint8)
        arrays: dict[str, np.ndarray] = {
            "captions": captions,
            "counts": np.array([len(rows) for rows in states.values()], np.int64),
            "rows": np.concatenate([*states.values()]),
        }
        name = hashlib.sha256(captions.tobytes()).hexdigest()[:16]
        safetensors.write(self._folder / f"{name}{safetensors.SUFFIX}", arrays, {CHECKSUM: _checksum(arrays)})


def digests(model: str) -> list[str]:
    """Of the encoders of this name whose states are kept."""
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
    """As part of a file's name."""
    return re.sub(r"[^\w.]", "_", text)
