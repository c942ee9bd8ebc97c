"""Five hundred files that somebody broke: each the right images or one line, in no more memory than a whole one."""

import dataclasses
import itertools
import tracemalloc
import zlib

import numpy as np
import pytest
import tiny_codec

from vdm.codec import coding, container
from vdm.codec.container import Container, Header
from vdm.errors import InputError

NUM, CHUNK = 11, 4
IMAGES = tiny_codec.images(NUM)
WHOLE = tiny_codec.coded(NUM, CHUNK)
FILE = Container.of_bytes(WHOLE)
PAYLOADS = [
    WHOLE[start : start + entry.size]
    for start, entry in zip(
        np.cumsum([FILE.front_size, *(entry.size for entry in FILE.entries)]), FILE.entries, strict=False
    )
]
CHUNKS = {container.digest(IMAGES[start : start + CHUNK], None) for start in range(0, NUM, CHUNK)}
PEAK = 4 << 20
"""Bytes: a batch, the words and the header are far less."""


def outcome(content: bytes) -> str:
    """What a decoder of the tiny model says of a file: "right", or the line. Checks that images are never others."""
    try:
        file = Container.of_bytes(content)
        header, chain = file.header, tiny_codec.chain()
        of_model = (chain.shape, chain.levels, chain.num_steps, chain.batch_size, Header().bins, 0)
        if (header.shape, header.levels, header.T, header.batch_size, header.bins, header.classes) != of_model:
            raise InputError("of another model")
    except InputError as error:
        return line(error)
    said = "right"
    for k in range(header.num_chunks):
        try:
            images = decoded(file, k)
        except InputError as error:
            said = line(error)
        else:
            assert container.digest(images, None) in CHUNKS
    return said


KNOWN: dict[tuple, np.ndarray | InputError] = {}


def decoded(file: Container, k: int) -> np.ndarray:
    """The images of a chunk; the same words are decoded once."""
    words, _ = file.payload(k)
    key = (words.tobytes(), file.header.numbers(k), file.entries[k].digest)
    if key not in KNOWN:
        try:
            KNOWN[key] = coding.decode_chunk(tiny_codec.chain(), file, k).images
        except InputError as error:
            KNOWN[key] = error
    if isinstance(KNOWN[key], InputError):
        raise KNOWN[key]
    return KNOWN[key]


def line(error: InputError) -> str:
    assert "\n" not in str(error)
    assert 0 < len(str(error)) < 400
    return str(error)


def broken(rng: np.random.Generator, kind: str) -> bytes:
    """A file that is not as it was."""
    content = bytearray(WHOLE)
    if kind == "cut":
        return WHOLE[: rng.integers(len(WHOLE))]
    if kind == "flipped":
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(len(WHOLE))] ^= 1 << rng.integers(8)
        return bytes(content)
    if kind == "spliced":
        start, end = sorted(rng.integers(0, len(WHOLE), 2))
        return WHOLE[:end] + WHOLE[start:]
    if kind == "random":
        start, end = sorted(rng.integers(0, len(WHOLE), 2))
        return WHOLE[:start] + rng.bytes(end - start) + WHOLE[end:]
    # By somebody who knows the format: every checksum is right.
    payloads = [bytearray(payload) for payload in PAYLOADS]
    for payload in payloads:
        payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
    entries = [entry._replace(crc=zlib.crc32(payload)) for entry, payload in zip(FILE.entries, payloads, strict=True)]
    change = next(CHANGES)
    header = dataclasses.replace(FILE.header, **change)
    times = -(-header.num_chunks // 3)
    return container.front(header, (entries * times)[: header.num_chunks]) + b"".join(map(bytes, payloads))


FORGED = ({}, {"images": 24}, {"images": 10**6, "chunk": 10**6}, {"images": 17}, {"images": 5, "chunk": 2},
          {"T": 1 << 16}, {"levels": 256}, {"shape": (1000, 1000, 3)}, {"bins": 256.0}, {"classes": 10},
          {"batch_size": 10**4})  # fmt: skip
CHANGES = itertools.cycle(FORGED)


@pytest.mark.parametrize("kind", ["cut", "flipped", "spliced", "random", "forged"])
def test_a_broken_file_is_right_images_or_one_line(kind):
    rng = np.random.default_rng(0)
    assert outcome(WHOLE) == "right"
    said = [outcome(broken(rng, kind)) for _ in range(100)]
    # Of the file, of its header and of its payloads: something is said each time.
    assert len(set(said)) > 1
    assert said.count("right") <= 1


@pytest.mark.parametrize("kind", ["cut", "flipped", "spliced", "random", "forged"])
def test_no_broken_file_takes_more_memory(kind):
    """Ten of each, and whatever numbers a forged header has. Tracing is slow."""
    rng = np.random.default_rng(1)
    tracemalloc.start()
    for _ in range(10):
        outcome(broken(rng, kind))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < PEAK
