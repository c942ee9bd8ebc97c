"""Many images on disk: npz files of `SHARD` images each, written one at a time and never drawn twice."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from vdm import likelihoods, parallel
from vdm.data.dataset import Element
from vdm.errors import InputError
from vdm.files import printable, replacing, write_json
from vdm.npz import read_npz
from vdm.reading import read_json, shown

SHARD = 1024
"""Number of images per shard: the most that a kill can lose, and the most held in memory."""

UNSAID = {"precision": "tf32", "guidance": "none", "text": None}
"""Settings that samples of earlier versions did not record, with the only values possible then."""

Images: TypeAlias = UInt8[np.ndarray, "num *data"] | Float32[np.ndarray, "num *data"]
"""Images as integers or real numbers."""


def stream(
    folder: Path,
    num: int,
    settings: dict[str, Any],
    draw: Callable[[int, int], Images],
    shape: Sequence[int],
    levels: int,
) -> int:
    """Write images 0 … num−1 to `folder`/shard_00000.npz, … as arrays `images`; return how many were drawn.

    `draw(first, num)` makes images `first` … `first` + `num` − 1, at most `SHARD` at a time, of `shape`, with integers
    below `levels` or real values. Existing shards with enough images are kept, so a run that was killed continues, and
    a larger `num` extends an earlier run. `settings` (JSON values) must hold everything that the images depend on; they
    are stored beside the images. Raises `InputError` if the folder has images with other settings, or a file that is
    not a shard of such images. With several processes, all must draw and see the folder.
    """
    _check_settings(folder, settings)
    starts = range(0, num, SHARD)
    shards = [(folder / f"shard_{first // SHARD:05d}.npz", first, min(SHARD, num - first)) for first in starts]
    # Determine this before any writing: otherwise a process could mistake new files of the main one for old ones.
    missing = [shard for shard in shards if not shard[0].exists() or len(_read(shard[0], shape, levels)) < shard[2]]
    for path, first, wanted in missing:
        images = draw(first, wanted)
        if parallel.is_main():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "settings.json", settings)
            _write(path, images)
    return sum(wanted for _, _, wanted in missing)


def read(folder: Path) -> Iterator[Images]:
    """Iterate over the shards of a folder in order, each (num, *shape). Raises `InputError` for a broken one."""
    shape = None
    for path in sorted(folder.glob("shard_*.npz")):
        images = _read(path, shape)
        shape = images.shape[1:]
        yield images


class Shards:
    """The first `num` images of a folder as a source of elements {"image": …}, with one shard in memory at a time."""

    def __init__(self, folder: Path, num: int | None = None):
        """Use all images if `num` is None. Raises `InputError` for no or too few images, and for a broken shard."""
        self._paths = sorted(folder.glob("shard_*.npz"))
        if not self._paths:
            raise InputError(f"{printable(folder)}: has no shard_*.npz as written by vdm sample")
        self._number, self._images = 0, _read(self._paths[0])
        last = self._images if len(self._paths) == 1 else _read(self._paths[-1], self._images.shape[1:])
        there = SHARD * (len(self._paths) - 1) + len(last)
        if num is not None and num > there:
            raise InputError(f"{printable(folder)}: has {there} images; must be {num} or more")
        self._num = there if num is None else num

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index: int) -> Element:
        number = index // SHARD
        if number != self._number:
            self._number, self._images = number, _read(self._paths[number], self._images.shape[1:])
        return {"image": self._images[index % SHARD]}


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the settings that `stream` stored with the images. Raises `InputError` if they are missing."""
    return read_json(folder / "settings.json")


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.exists():
        if any(folder.glob("shard_*.npz")):
            raise InputError(f"{folder}: has samples without settings.json; move them away")
        return
    # Earlier versions did not record these settings.
    there = {name: value for name, value in UNSAID.items() if settings.get(name) == value} | read_json(path)
    differing = [
        f"{shown(name)[1:-1]} {shown(there.get(name))} there, {shown(settings.get(name))} here"
        for name in sorted({*there, *settings})
        if there.get(name) != settings.get(name)
    ]
    if differing:
        raise InputError(f"{folder}: has samples with other settings: {', '.join(differing)}; move them away")


def _read(path: Path, shape: Sequence[int] | None = None, levels: int | None = None) -> Images:
    """Read the images of a shard, checking shape and levels if they are given."""
    try:
        images = read_npz(path, ["images"])["images"]
    except InputError as error:
        raise InputError(f"{error}; delete it and it is drawn again") from error
    wanted = tuple(images.shape[1:] if shape is None else shape)
    # If the levels are unknown, the dtype decides.
    real = images.dtype == np.float32 if levels is None else levels == likelihoods.REAL
    levels = likelihoods.REAL if real else levels or 256
    dtype, ranks = likelihoods.dtype(levels), (2, 3, 4) if real else (4,)
    if images.dtype != dtype or images.ndim not in ranks or images.shape[1:] != wanted or len(images) > SHARD:
        allowed = ", ".join(map(str, shape or ("height", "width", "channels")))
        problem = f"images are {images.dtype} {images.shape}; must be {dtype} (up to {SHARD}, {allowed})"
    elif real and not np.isfinite(images).all():
        problem = "images have values that are not finite"
    elif not real and images.size and images.max() >= levels:
        problem = f"images have values up to {images.max()}; must be below {levels}"
    else:
        return images
    raise InputError(f"{path}: {problem}; delete it and it is drawn again")


def _write(path: Path, images: Images) -> None:
    """Write a shard atomically."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, images=images)
