"""The file format of coded images: a header, an index of chunks, and the chunks' payloads, each with a checksum.

    4 bytes  "vdmz"      1 byte  version of the format      2 bytes  length of the header
    the header: a JSON object, deflated with `TEMPLATE` as its dictionary
    the index: one `Entry` per chunk
    4 bytes  CRC-32 of everything before
    the payloads, one after the other: the words of the chunk, and the names of its images if they are stored

Numbers are little-endian. Only the header and the index must be intact: damage to a payload loses its chunk alone.
Memory is allocated only within the file's own length and the limits of the header's fields.
"""

import dataclasses
import hashlib
import json
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from vdm import settings
from vdm.codec.normals import BINS, MEAN_STEPS
from vdm.errors import InputError
from vdm.files import printable
from vdm.reading import parse_json, shown
from vdm.settings import between, setting

MAGIC, VERSION = b"vdmz", 1

PARTS_BITS = 24
"""Number of bits in which constriction quantizes probabilities."""

MOST_STEPS = 1 << 16
MOST_VALUES = 1 << 30
"""Largest number of pixel values in a chunk, and of probabilities in a batch."""

LONGEST_TEXT = 1 << 10
LONGEST_NAME = 255
LONGEST_HEADER = 1 << 14

_FRONT = struct.Struct("<4sBH")
_CRC = struct.Struct("<I")
_ENTRY = struct.Struct("<II8s")
_NAMES = struct.Struct("<I")


@dataclass(frozen=True)
class Platform:
    """What the bits of a network's output may depend on, besides the network itself."""

    jax: str = ""
    jaxlib: str = ""
    numpy: str = ""
    constriction: str = ""
    backend: str = ""
    """Platform of JAX: cpu, gpu, …."""
    device: str = ""
    """Kind of device, e.g. "NVIDIA H100"."""
    machine: str = ""
    """Processor architecture and its widest vector instruction set, e.g. "x86_64 avx512f"."""

    def other_than(self, other: "Platform") -> list[str]:
        """Describe in words each difference between this platform and `other`, the one here."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
        return [f"{name} {there or 'unknown'} there, {here} here" for name, there, here in pairs if there != here]


@dataclass(frozen=True)
class Header:
    """Everything that a decoder must know, besides the model itself."""

    T: int = setting(100, "Steps of the model.", between(1, MOST_STEPS))
    batch_size: int = setting(1, "Images per network call.", between(1, MOST_STEPS))
    bins: float = setting(BINS, "Widths of the grid of z per σ.", between(0.5, 256))
    chunk: int = setting(256, "Images per chunk.", between(1, 1 << 20))
    classes: int = setting(0, "Number of classes; 0: there are no labels.", between(0, 1 << 20))
    images: int = setting(1, "Number of images.", between(1, 1 << 40))
    levels: int = setting(256, "Values of a pixel.", between(2, 256))
    made_on: Platform = field(default_factory=Platform)
    mean_steps: int = setting(MEAN_STEPS, "Means are rounded to 1/mean_steps of a width.", between(1, 1 << 20))
    model: str = setting("", "Fingerprint of the model that coded the images.")
    names: bool = setting(False, "Whether the images' names are stored.")
    note: str = setting("", "Information for people, such as what the labels stand for.")
    parts_bits: int = setting(PARTS_BITS, "Bits of the coder's probabilities.", between(1, 32))
    run: str = setting("", "A hint of where the model was.")
    shape: tuple[int, ...] = setting((), "Shape of an image.", settings.each(1, settings.MAX_SIDE))
    step: int = setting(0, "Step of the checkpoint.", between(0, settings.MAX_INT))

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.images // self.chunk)

    @property
    def num_dims(self) -> int:
        """Data dimensions of one image, the divisor of bits/dim."""
        return math.prod(self.shape)

    def numbers(self, chunk: int) -> range:
        """The indices of the images in a chunk."""
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, self.images))

    def to_dict(self) -> dict[str, Any]:
        """Convert the header to what its JSON parses to."""
        return parse_json(json.dumps(dataclasses.asdict(self)).encode(), "header")

    def check(self, where: str) -> None:
        """Raise `InputError`, starting with `where`, for a header that no file of this version can have."""
        settings.check(self, where)
        for each in settings.settings(self):
            if not isinstance(each.value, str):
                continue
            if len(each.value) > LONGEST_TEXT:
                raise InputError(f"{where}.{each.name}: has {len(each.value)} letters; must be {LONGEST_TEXT} at most")
            if not each.value.isprintable():
                raise InputError(f"{where}.{each.name}={shown(each.value)}: must be one line of printable letters")
        for name, made in (("parts_bits", PARTS_BITS), ("mean_steps", MEAN_STEPS)):
            if getattr(self, name) != made:
                raise InputError(f"{where}.{name}={getattr(self, name)}: must be {made}, in this version of vdm")
        if not (1 <= len(self.shape) <= 4 and self.num_dims <= MOST_VALUES):
            raise InputError(f"{where}.shape={self.shape}: must be 1 to 4 numbers, with {MOST_VALUES} values at most")
        per_chunk, per_batch = min(self.chunk, self.images), self.batch_size * self.levels
        for name, number in (("chunk", per_chunk), ("batch_size", per_batch)):
            if number * self.num_dims > MOST_VALUES:
                raise InputError(
                    f"{where}.{name}={getattr(self, name)}: is too large for images of {self.shape} and "
                    f"{self.levels} levels"
                )


TEMPLATE = (
    b'{"T": 1000, "batch_size": 64, "bins": 1.5, "chunk": 256, "classes": 10, "images": 10000, "levels": 256, '
    b'"made_on": {"jax": "0.10.2", "jaxlib": "0.10.2", "numpy": "2.4.6", "constriction": "0.5.0", "backend": "gpu", '
    b'"device": "NVIDIA H100", "machine": "aarch64"}, "made_on": {"jax": "0.12.0", "jaxlib": "0.12.0", '
    b'"numpy": "2.4.6", "constriction": "0.5.0", "backend": "cpu", "device": "cpu", "machine": "x86_64 avx512f"}, '
    b'"mean_steps": 256, "model": "sha256:0123456789abcdef", "names": true, "note": "digits@test", "parts_bits": 24, '
    b'"run": "runs/digits_conditional", "shape": [28, 28, 1], "classes": 0, "images": 300, "levels": 17, '
    b'"names": false, "note": "", "run": "runs/", "shape": [8, 8, 1], "step": 100}'
)
"""Text that most headers share, so that they deflate to about 100 bytes. Part of the format: never change it."""


class Entry(NamedTuple):
    """What the index says of one chunk."""

    words: int
    """Number of 32-bit words of images and labels."""
    crc: int
    """CRC-32 of the payload."""
    digest: bytes
    """8-byte digest of the decoded images and labels: see `digest`."""
    names: int
    """Number of bytes of the names."""

    @property
    def size(self) -> int:
        """Number of bytes of the payload."""
        return 4 * self.words + self.names


class Coded(NamedTuple):
    """An encoded chunk, ready to be written to a file."""

    payload: bytes
    entry: Entry

    @classmethod
    def of(cls, words: np.ndarray, digest: bytes, names: Sequence[str] | None) -> "Coded":
        """Make a chunk of the words of `chunk.push`, the digest of what they decode to, and the images' names."""
        listed = b"" if names is None else zlib.compress("\n".join(names).encode(), 9)
        return cls.of_payload(words.astype("<u4").tobytes() + listed, len(words), digest)

    @classmethod
    def of_payload(cls, payload: bytes, words: int, digest: bytes) -> "Coded":
        """Make a chunk of a payload that starts with this number of words, with names after them."""
        return cls(payload, Entry(words, zlib.crc32(payload), digest, len(payload) - 4 * words))


def digest(images: UInt8[np.ndarray, "num *data"], labels: Integer[np.ndarray, " num"] | None) -> bytes:
    """Return an 8-byte hash of a chunk's images and labels."""
    found = hashlib.sha256(np.ascontiguousarray(images).data)
    if labels is not None:
        found.update(labels.astype("<i4").tobytes())
    return found.digest()[:8]


def front(header: Header, entries: Sequence[Entry]) -> bytes:
    """Return the part of a file before its payloads. Raises `InputError` for a header beyond its limits."""
    header.check("header")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, TEMPLATE)
    table = json.dumps(header.to_dict()).encode()
    if len(table) >= LONGEST_HEADER:
        raise InputError(f"header: its texts take {len(table)} bytes; must be fewer than {LONGEST_HEADER}")
    packed = deflate.compress(table) + deflate.flush()
    index = b"".join(
        _ENTRY.pack(entry.words, entry.crc, entry.digest) + (_NAMES.pack(entry.names) if header.names else b"")
        for entry in entries
    )
    before = _FRONT.pack(MAGIC, VERSION, len(packed)) + packed + index
    return before + _CRC.pack(zlib.crc32(before))


class Damaged(InputError):
    """A chunk cannot be decoded; other chunks of the file may be intact."""


class Container:
    """A file of coded images: header and index are read at once, payloads on request."""

    def __init__(self, read: Callable[[int, int], bytes], size: int, where: str):
        """Read header and index by `read(offset, number)`, which returns bytes of the file, `size` bytes in all.

        `where` is the file's name in messages. Raises `InputError` for a file of another format or version, and for a
        damaged header or index.
        """
        self.where, self.size, self._read = where, size, read
        magic, version, length = _FRONT.unpack(read(0, _FRONT.size).ljust(_FRONT.size, b"\0"))
        if magic != MAGIC:
            raise InputError(f"{where}: is not a file of vdm compress")
        if version != VERSION:
            raise InputError(f"{where}: is of version {version} of the format; must be {VERSION}")
        self.header = header = _header(read(_FRONT.size, length), where)
        names = _NAMES.size * header.names
        end = _FRONT.size + length + header.num_chunks * (_ENTRY.size + names)
        if end + _CRC.size > size:
            raise InputError(f"{where}: its header or index is damaged, or was cut off")
        before = read(0, end)
        (crc,) = _CRC.unpack(read(end, _CRC.size))
        if zlib.crc32(before) != crc:
            raise InputError(f"{where}: its header or index is damaged: the checksum differs")
        self.front_size = end + _CRC.size
        self.entries, self._starts, start = [], [], self.front_size
        for offset in range(_FRONT.size + length, end, _ENTRY.size + names):
            words, crc, of_images = _ENTRY.unpack_from(before, offset)
            of_names = _NAMES.unpack_from(before, offset + _ENTRY.size)[0] if names else 0
            self.entries.append(Entry(words, crc, of_images, of_names))
            self._starts.append(start)
            start += self.entries[-1].size
        if start < size:
            raise InputError(f"{where}: has {size - start} bytes more than its index says")

    @classmethod
    def of_bytes(cls, content: bytes, where: str = "file") -> "Container":
        """Open a file held in memory."""
        return cls(lambda offset, number: content[offset : offset + number], len(content), where)

    @classmethod
    def of_path(cls, path: Path) -> "Container":
        """Open a file on disk, which is read in parts."""

        def read(offset: int, number: int) -> bytes:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(number)

        where = printable(path)
        try:
            if path.exists() and not path.is_file():  # reading a pipe would block
                raise InputError(f"{where}: is not a file")
            return cls(read, path.stat().st_size, where)
        except OSError as error:
            raise InputError(f"{where}: {error.strerror or error}") from error

    def problem(self, chunk: int, what: str) -> Damaged:
        """Return an error whose message names the chunk and its images."""
        numbers = self.header.numbers(chunk)
        return Damaged(f"{self.where}: chunk {chunk} (images {numbers[0]} to {numbers[-1]}): {what}")

    def payload(self, chunk: int) -> tuple[np.ndarray, list[str] | None]:
        """Return the words of a chunk, and its images' names or None. Raises `Damaged` if they are not intact."""
        entry, start = self.entries[chunk], self._starts[chunk]
        if start + entry.size > self.size:
            raise self.problem(chunk, "is cut off")
        content = self._read(start, entry.size)
        if zlib.crc32(content) != entry.crc:
            raise self.problem(chunk, "is damaged: the checksum differs")
        words = np.frombuffer(content[: 4 * entry.words], "<u4").astype(np.uint32)
        return words, self._names(chunk, content[4 * entry.words :]) if self.header.names else None

    def _names(self, chunk: int, packed: bytes) -> list[str]:
        num = len(self.header.numbers(chunk))
        try:
            names = _inflated(packed, num * (4 * LONGEST_NAME + 1)).decode().split("\n")
        except ValueError as error:
            raise self.problem(chunk, f"its names cannot be read ({error})") from error
        if len(names) != num:
            raise self.problem(chunk, f"has {len(names)} names of {num} images")
        return names


def _header(packed: bytes, where: str) -> Header:
    where = f"{where}: header"
    try:
        text = _inflated(packed, LONGEST_HEADER, TEMPLATE)
    except ValueError as error:
        raise InputError(f"{where}: is damaged, or was cut off") from error
    header: Header = settings.from_dict(Header, parse_json(text, where), f"{where}.")
    header.check(where)
    return header


def _inflated(packed: bytes, most: int, dictionary: bytes | None = None) -> bytes:
    """Inflate `packed`. Raises ValueError for data that are not deflated, and for more than `most` bytes."""
    inflate = zlib.decompressobj() if dictionary is None else zlib.decompressobj(-15, dictionary)
    try:
        content = inflate.decompress(packed, most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflate.eof or inflate.unused_data:
        raise ValueError(f"has other than 1 to {most} bytes")
    return content
