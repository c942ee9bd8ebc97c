"""Conversion of images to the bytes of a file and back, chunk by chunk, with any denoiser."""

import importlib.metadata
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Integer, UInt8
from numpy.typing import ArrayLike

from vdm import predictions
from vdm.codec import chunk as chunks
from vdm.codec.chain import Chain, compiled
from vdm.codec.chunk import Rate
from vdm.codec.container import MOST_VALUES, Coded, Container, Header, Platform, digest, front
from vdm.errors import InputError
from vdm.reading import read_bytes

BATCH = 16
"""Images per network call. A chunk's first batches are small, and padded: at 64, most of the work would be wasted."""

CHUNK = 256
"""Images per chunk."""

INSTRUCTIONS = ("avx512f", "avx2", "avx", "sse4_2")
"""Vector instruction sets of x86, widest first."""


class Decoded(NamedTuple):
    """The decoded images of a chunk or of a file."""

    images: UInt8[np.ndarray, "num *data"]
    labels: Integer[np.ndarray, " num"] | None
    names: list[str] | None = None


def encode(
    images: ArrayLike,
    denoise: predictions.Denoise | Callable[..., predictions.Denoise],
    gammas: ArrayLike,
    levels: int = 256,
    *,
    labels: ArrayLike | None = None,
    classes: int = 0,
    batch_size: int = BATCH,
    chunk: int = CHUNK,
    model: str = "",
) -> bytes:
    """Encode images, uint8 (num, *data) with values 0 … `levels` − 1, as the bytes of a file for `decode`; lossless.

    `gammas` are the T + 1 noise levels of `samplers.grid`, from γ(1) down to γ(0). With `labels` (num,), integers below
    `classes`, `denoise` makes a denoiser of labels (batch,), and the labels are coded too. To read one image, the whole
    `chunk` of images that it was coded with must be decoded, at most `batch_size` of them per network call. `model` is
    any text that identifies the model that codes.

    Raises ValueError for images and labels with other values, `gammas` that are not decreasing, and a network whose
    output is not finite; raises `InputError`, a subclass of it, for sizes beyond the limits of the format.

    >>> from vdm import codec, oracles, samplers, schedules
    >>> oracle = oracles.gaussian(np.zeros((4, 4, 1)), np.full((4, 4, 1), 0.1))
    >>> gammas = samplers.grid(lambda t: schedules.linear(-7.0, 4.0).gamma({}, t), 10)
    >>> images = np.random.default_rng(0).integers(6, 11, (20, 4, 4, 1)).astype(np.uint8)
    >>> coded = codec.encode(images, oracle.denoise, gammas, levels=17)
    >>> np.array_equal(codec.decode(coded, oracle.denoise, gammas), images)
    True
    """
    images, gammas = np.asarray(images), _listed(gammas)
    labels = None if labels is None else np.asarray(labels)
    check(images, levels, labels, classes)
    num, *shape = images.shape
    header = Header(
        T=len(gammas) - 1,
        batch_size=sized(batch_size, num, shape, levels),
        chunk=min(chunk, num),
        classes=classes,
        images=num,
        levels=levels,
        made_on=here(),
        model=model,
        shape=tuple(shape),
    )
    header.check("codec.encode")
    chain = _chain(header, denoise, gammas)
    coded = []
    for k in range(header.num_chunks):
        part = slice(header.numbers(k)[0], header.numbers(k)[-1] + 1)
        coded.append(encode_chunk(chain, images[part], None if labels is None else labels[part], classes)[0])
    return front(header, [each.entry for each in coded]) + b"".join(each.payload for each in coded)


def decode(
    coded: bytes,
    denoise: predictions.Denoise | Callable[..., predictions.Denoise],
    gammas: ArrayLike,
    model: str = "",
) -> UInt8[np.ndarray, "num *data"]:
    """Decode exactly the images that `encode` was given, with the same denoiser and `gammas`; never return others.

    Raises `InputError`, a one-line message, for bytes that are not such a file, a file with another T or `model`, and a
    file with a chunk that is damaged or that does not decode, e.g. because it was encoded on another platform. In the
    last case, `decode_chunk` can still decode the other chunks.
    """
    return decode_labelled(coded, denoise, gammas, model).images


def decode_labelled(
    coded: bytes,
    denoise: predictions.Denoise | Callable[..., predictions.Denoise],
    gammas: ArrayLike,
    model: str = "",
) -> Decoded:
    """Decode as `decode` does, and return the labels too, or None if there are none."""
    file = Container.of_bytes(coded)
    header, gammas = file.header, _listed(gammas)
    for name, found, needed in (("T", header.T, len(gammas) - 1), ("model", header.model, model)):
        if found != needed:
            raise InputError(f"file: {name} is {found!r}; must be {needed!r}, as it is here")
    chain = _chain(header, denoise, gammas)
    parts = [decode_chunk(chain, file, k) for k in range(header.num_chunks)]
    labels = [part.labels for part in parts if part.labels is not None]
    return Decoded(np.concatenate([part.images for part in parts]), np.concatenate(labels) if labels else None)


def encode_chunk(
    chain: Chain,
    images: UInt8[np.ndarray, "num *data"],
    labels: Integer[np.ndarray, " num"] | None = None,
    classes: int = 0,
    names: Sequence[str] | None = None,
) -> tuple[Coded, Rate]:
    """Encode one chunk of a file and return it with its `Rate`. Raises ValueError as `Chain.push` does."""
    words, rate = chunks.push(chain, images, labels, classes)
    return Coded.of(words, digest(images, labels), names), rate


def decode_chunk(chain: Chain, file: Container, chunk: int) -> Decoded:
    """Decode one chunk and check its images and labels against their digest. Raises `Damaged` if they differ."""
    words, names = file.payload(chunk)
    header, failure = file.header, None
    try:
        images, labels = chunks.pop(chain, words, len(header.numbers(chunk)), header.classes)
        same = digest(images, labels) == file.entries[chunk].digest
    except (ValueError, TypeError, AssertionError, OverflowError) as error:  # constriction raises AssertionError
        same, failure = False, error
    if not same:
        differing = "".join(f" ({line})" for line in header.made_on.other_than(here())[:1])
        raise file.problem(chunk, f"does not decode here to what was coded{differing}") from failure
    return Decoded(images, labels, names)


def check(images: np.ndarray, levels: int, labels: np.ndarray | None = None, classes: int = 0) -> None:
    """Raise ValueError unless images are uint8 (num, *data) below `levels`, and labels, if any, below `classes`."""
    if images.dtype != np.uint8 or images.ndim < 2 or not images.size:
        raise ValueError(f"images: are {images.dtype} {images.shape}; must be uint8 (num, *data), with some values")
    if images.max() >= levels:
        raise ValueError(f"images: have values up to {images.max()}; must be below levels={levels}")
    if (labels is None) != (classes == 0):
        there = "there are none" if labels is None else "there are some"
        raise ValueError(f"labels: {there}, and classes={classes}; must be both or neither")
    if labels is None:
        return
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"labels: are {labels.dtype} {labels.shape}; must be integers ({len(images)},)")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels: are from {labels.min()} to {labels.max()}; must be from 0 to {classes - 1}")


def sized(batch_size: int, num: int, shape: Sequence[int], levels: int) -> int:
    """Reduce a batch size to the number of images, and to what `MOST_VALUES` has room for."""
    return min(batch_size, num, max(1, MOST_VALUES // (math.prod(shape) * levels)))


def here(device: Any = None) -> Platform:
    """Describe the platform that the bits of a network's output depend on, with this device (default: the first)."""
    device = jax.devices()[0] if device is None else device
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "constriction")}
    cpuinfo = Path("/proc/cpuinfo")
    flags = read_bytes(cpuinfo).decode(errors="replace").split() if cpuinfo.exists() else []
    widest = next((name for name in INSTRUCTIONS if name in flags), "")
    machine = f"{platform.machine()} {widest}".strip()
    return Platform(**versions, backend=device.platform, device=device.device_kind, machine=machine)


def _listed(gammas: ArrayLike) -> np.ndarray:
    found = np.asarray(gammas)
    if found.ndim != 1 or len(found) < 2:
        raise ValueError(f"gammas: are of shape {found.shape}; must be 2 or more, falling")
    return found


def _chain(header: Header, denoise: Any, gammas: np.ndarray) -> Chain:
    predict = compiled(denoise, labels=header.classes > 0)
    return Chain(predict, gammas, header.shape, header.levels, header.batch_size, header.bins)
