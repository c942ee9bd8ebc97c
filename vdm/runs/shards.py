"""Many images on disk: shards of `SHARD` images as npz files, written one at a time and never twice."""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vdm import parallel
from vdm.errors import InputError
from vdm.files import replacing, write_json

SHARD = 1024
"""Images in every shard but the last: what a kill costs at most, and what is held in memory."""

Images = UInt8[np.ndarray, "num height width channels"]


def stream(folder: Path, num: int, settings: dict[str, Any], draw: Callable[[int, int], Images]) -> int:
    """Images 0 … num−1 into `folder`/shard_00000.npz, …, each with an array `images`; returns how many it has drawn.

    `draw(first, num)` makes images `first` … `first` + `num` − 1, at most `SHARD` at a time. Shards that are there with
    as many images or more are kept as they are, so a run that was killed goes on, and one with a larger `num` adds to
    it. `settings` (JSON values) are all that the images depend on; they are written beside them. Raises `InputError` if
    the folder has images of others, or a file that is no shard. Of several processes, all draw and see the folder.
    """
    _check_settings(folder, settings)
    starts = range(0, num, SHARD)
    shards = [(folder / f"shard_{first // SHARD:05d}.npz", first, min(SHARD, num - first)) for first in starts]
    # All at once: a process must not take what the first writes meanwhile for what was there.
    missing = [shard for shard in shards if not shard[0].exists() or len(_read(shard[0])) < shard[2]]
    for path, first, wanted in missing:
        images = draw(first, wanted)
        if parallel.is_main():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "settings.json", settings)
            _write(path, images)
    return sum(wanted for _, _, wanted in missing)


def read(folder: Path) -> Iterator[Images]:
    """The shards of a folder in order, each (num, height, width, channels). Raises `InputError` for a broken one."""
    for path in sorted(folder.glob("shard_*.npz")):
        yield _read(path)


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.exists():
        if any(folder.glob("shard_*.npz")):
            raise InputError(f"{folder}: has samples without settings.json; move them away")
        return
    try:
        there = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    differing = [
        f"{name} {there.get(name)!r} there, {settings.get(name)!r} here"
        for name in sorted({*there, *settings})
        if there.get(name) != settings.get(name)
    ]
    if differing:
        raise InputError(f"{folder}: has samples of other settings: {', '.join(differing)}; move them away")


def _read(path: Path) -> Images:
    try:
        with np.load(path) as file:
            return file["images"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a shard of samples ({error}); delete it and it is drawn again") from error


def _write(path: Path, images: Images) -> None:
    """So that a kill leaves no shard or a whole one."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, images=images)
