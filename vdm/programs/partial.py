"""What an interrupted `vdm compress` leaves: a folder of finished chunks and the settings that they were coded with."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from vdm.codec.container import Coded, Entry, Header, front
from vdm.errors import InputError
from vdm.files import replacing, write_json
from vdm.npz import read_npz
from vdm.reading import read_json, shown
from vdm.runs.folder import lock


class Kept(NamedTuple):
    """What is kept in memory about a finished chunk."""

    entry: Entry
    seeds: int
    """Number of images stored without the model."""
    images: int
    """Number of images coded by the model."""
    bits: int
    """Bits that the images coded by the model take."""


class Partial:
    """The folder FILE.partial."""

    def __init__(self, out: Path, header: Header, names: Sequence[str] | None, console: Console):
        """Open or make the folder; if its chunks are of other settings, delete them and say so on the console.

        Holds a lock until it is closed. Raises `InputError` if another process is making the same file.
        """
        self.folder = out.with_name(f"{out.name}.partial")
        try:
            self._lock = lock(self.folder)
        except InputError as error:
            raise InputError(f"--out={out}: {str(error).removeprefix(f'--workdir={self.folder}: ')}") from error
        now = header.to_dict() | {"of_names": hashlib.sha256("\n".join(names or ()).encode()).hexdigest()[:16]}
        now.pop("run")  # the same run may go by another name
        there = self._settings()
        if there not in ({}, now):
            differing = next(name for name in {**there, **now} if there.get(name) != now.get(name))
            what = f"{shown(differing)[1:-1]} {shown(there.get(differing))} there, {shown(now.get(differing))} here"
            console.print(f"{self.folder}: has chunks of other settings ({what}): starting over")
            for path in self.folder.glob("chunk_*.npz"):
                path.unlink()
        write_json(self.folder / "settings.json", now)

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()

    def keep(self, chunk: int, coded: Coded, kept: Kept) -> None:
        """Write a chunk, completely or not at all."""
        payload, digest = (np.frombuffer(each, np.uint8) for each in (coded.payload, coded.entry.digest))
        numbers = np.array([coded.entry.words, kept.seeds, kept.images, kept.bits])
        with replacing(self._path(chunk)) as partial, partial.open("wb") as file:
            np.savez(file, payload=payload, digest=digest, numbers=numbers)

    def find(self, chunk: int, digest: bytes) -> Kept | None:
        """Return a chunk if it is there, intact and of the images with this digest; else None."""
        try:
            coded, kept = self._read(chunk)
        except (InputError, ValueError):
            return None
        return kept if coded.entry.digest == digest else None

    def finish(self, out: Path, header: Header, entries: Sequence[Entry]) -> int:
        """Join all chunks into the file `out` and remove the folder; return the file's size in bytes."""
        before, whole = front(header, entries), self.folder / "whole"
        with whole.open("wb") as file:
            file.write(before)
            for chunk in range(len(entries)):
                file.write(self._read(chunk)[0].payload)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(whole, out)
        shutil.rmtree(self.folder)
        return size

    def _settings(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / "settings.json", {})
        except InputError:
            return {"settings": "damaged"}

    def _path(self, chunk: int) -> Path:
        return self.folder / f"chunk_{chunk:06d}.npz"

    def _read(self, chunk: int) -> tuple[Coded, Kept]:
        found = read_npz(self._path(chunk), ["payload", "digest", "numbers"])
        words, seeds, images, bits = found["numbers"].tolist()
        coded = Coded.of_payload(found["payload"].tobytes(), words, found["digest"].tobytes())
        return coded, Kept(coded.entry, seeds, images, bits)
