"""The file of coded images: few bytes, limits on every number, and what is damaged is said."""

import dataclasses
import inspect
import json
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from vdm.codec import container
from vdm.codec.chain import Chain
from vdm.codec.container import Coded, Container, Damaged, Header, Platform
from vdm.errors import InputError

HEADER = Header(images=20, chunk=8, shape=(2, 2, 1), levels=17, names=True, model="sha256:00ff", run="runs/π")


def coded(header: Header = HEADER) -> list[Coded]:
    rng = np.random.default_rng(0)
    return [
        Coded.of(
            rng.integers(0, 2**32, 5 + k, dtype=np.uint32),
            bytes(range(k, k + 8)),
            [f"{number}.png" for number in header.numbers(k)] if header.names else None,
        )
        for k in range(header.num_chunks)
    ]


def file_of(header: Header = HEADER) -> bytes:
    chunks = coded(header)
    return container.front(header, [each.entry for each in chunks]) + b"".join(each.payload for each in chunks)


def refusal(content: bytes) -> str:
    with pytest.raises(InputError) as error:
        Container.of_bytes(content, "a.vdm")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("a.vdm: ")
    return str(error.value)


@pytest.mark.parametrize("names", [True, False])
def test_what_is_written_is_read(names, tmp_path):
    header = dataclasses.replace(HEADER, names=names, bins=2.5, note="digits@test", made_on=Platform(jax="0.10.2"))
    (tmp_path / "a.vdm").write_bytes(file_of(header))
    for file in (Container.of_bytes(file_of(header)), Container.of_path(tmp_path / "a.vdm")):
        assert file.header == header
        assert file.entries == [each.entry for each in coded(header)]
        rng = np.random.default_rng(0)
        for k in range(3):
            words, found = file.payload(k)
            np.testing.assert_array_equal(words, rng.integers(0, 2**32, 5 + k, dtype=np.uint32))
            assert found == ([f"{number}.png" for number in header.numbers(k)] if names else None)
    assert [list(header.numbers(k))[-1] for k in range(3)] == [7, 15, 19]


def test_the_header_is_few_bytes():
    """All of it is a percent of 10 kB: what is in the template costs next to nothing, and a word what it is long."""
    platform = Platform("0.10.2", "0.10.2", "2.4.6", "0.5.0", "cpu", "cpu", "x86_64 avx2")
    header = Header(shape=(8, 8, 1), levels=17, made_on=platform, model="sha256:5ac408548ae3209d", run="runs/digits")
    header = dataclasses.replace(header, images=360, step=2500)
    entries = [coded(header)[0].entry] * 2
    size = len(container.front(header, entries))
    assert size <= 100
    longer = dataclasses.replace(header, note="q7x9b2m5w0k8j4h6")
    assert size + 10 < len(container.front(longer, entries)) <= size + 24


@pytest.mark.parametrize(
    ("field", "value"),
    [("T", 0), ("T", 1 << 17), ("batch_size", 0), ("batch_size", 1 << 16), ("bins", 0.1), ("bins", float("nan")),
     ("chunk", 0), ("chunk", 1 << 21), ("classes", -1), ("classes", 1 << 21), ("images", 0), ("images", 1 << 41),
     ("levels", 1), ("levels", 257), ("mean_steps", 128), ("parts_bits", 32), ("note", "x" * 1025),
     ("note", "two\nlines"), ("run", "\x1b[2J"), ("shape", ()),
     ("shape", (0, 2, 1)), ("shape", (1,) * 5), ("shape", (2**16, 2**16, 2**16)), ("step", -1)],
)  # fmt: skip
def test_no_number_is_without_limits(field, value):
    """Nobody writes it, and who does finds nobody who reads it."""
    header = dataclasses.replace(HEADER, batch_size=1)
    if field == "batch_size" and value > 1:
        header = dataclasses.replace(header, shape=(64, 64, 3))
    changed = dataclasses.replace(header, **{field: value})
    with pytest.raises(InputError, match=f"header.{field}"):
        changed.check("header")
    said = "not valid JSON" if field == "bins" and np.isnan(value) else f"header.{field}"
    assert said in refusal(forged(vars(changed) | {"made_on": {}}))


def forged(values: dict, index: bytes = b"") -> bytes:
    """A file whose header has these values, and whose checksum is right."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, container.TEMPLATE)
    packed = deflate.compress(json.dumps(values).encode()) + deflate.flush()
    before = struct.pack("<4sBH", b"vdmz", 1, len(packed)) + packed + index
    return before + struct.pack("<I", zlib.crc32(before))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": "8"}, "header.shape='8'"),
        ({"T": True}, "header.T=True"),
        ({"T": 1e400}, "not valid JSON"),
        ({"made_on": 3}, "made_on: found a number"),
        ({"made_on": {"jax": "0\n1"}}, r"header.made_on.jax='0\n1': must be one line"),
        ({"extra": 1}, "extra: no such field"),
        ({"images": 10**9, "chunk": 1}, "damaged, or was cut off"),
    ],
)
def test_a_header_of_other_things_is_one_line(change, said):
    values = HEADER.to_dict() | change
    assert said in refusal(forged(values))


def test_a_header_that_nobody_could_read_is_not_written():
    """A letter is up to 12 bytes of JSON."""
    header = dataclasses.replace(HEADER, run="😀" * 1024, note="😀" * 1024)
    with pytest.raises(InputError, match=r"header: its texts take \d+ bytes; must be fewer than 16384"):
        container.front(header, [])


def test_words_are_little_endian():
    assert Coded.of(np.array([1, 2 << 24], np.uint32), bytes(8), None).payload == b"\1\0\0\0\0\0\0\2"


def test_the_header_says_by_default_what_the_coder_does():
    assert inspect.signature(Chain).parameters["bins"].default == Header().bins


def test_what_is_no_file_of_ours_is_one_line(tmp_path):
    whole = file_of()
    for content in (b"", b"vdm", b"\x89PNG\r\n\x1a\n" + bytes(100)):
        assert "is not a file of vdm compress" in refusal(content)
    assert "version 2 of the format" in refusal(whole[:4] + b"\2" + whole[5:])
    assert "has 3 bytes more" in refusal(whole + b"abc")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe"):
        with pytest.raises(InputError, match=str(path)):
            Container.of_path(path)


def test_every_byte_of_header_and_index_counts():
    whole = file_of()
    size = Container.of_bytes(whole).front_size
    for position in range(size):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        refusal(bytes(changed))
    for length in range(0, size, 3):
        refusal(whole[:length])


def test_a_damaged_payload_loses_its_chunk_alone():
    whole, sizes = file_of(), [each.entry.size for each in coded()]
    front = len(whole) - sum(sizes)
    for k in range(3):
        for position in (0, sizes[k] - 1):
            changed = bytearray(whole)
            changed[front + sum(sizes[:k]) + position] ^= 4
            file = Container.of_bytes(bytes(changed), "a.vdm")
            for other in range(3):
                if other != k:
                    file.payload(other)
            with pytest.raises(Damaged, match=rf"a.vdm: chunk {k} \(images {8 * k} to {[7, 15, 19][k]}\): is damaged"):
                file.payload(k)
    cut = Container.of_bytes(whole[: front + sizes[0] + 5])
    cut.payload(0)
    for k in (1, 2):
        with pytest.raises(Damaged, match="is cut off"):
            cut.payload(k)


@pytest.mark.parametrize("bomb", ["header", "names"])
def test_what_is_deflated_has_limits(bomb):
    """10 MB of zeros are 10 kB; nobody inflates them."""
    large = 10**7
    if bomb == "header":
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = (deflate.compress(bytes(large)) + deflate.flush())[: 2**16 - 1]
        content = struct.pack("<4sBH", b"vdmz", 1, len(packed)) + packed
        tracemalloc.start()
        assert "header: is damaged" in refusal(content)
    else:
        header = dataclasses.replace(HEADER, images=8)
        chunk = Coded.of_payload(bytes(20) + zlib.compress(bytes(large)), 5, bytes(8))
        file = Container.of_bytes(container.front(header, [chunk.entry]) + chunk.payload)
        tracemalloc.start()
        with pytest.raises(Damaged, match="its names cannot be read"):
            file.payload(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_names_are_as_many_as_images():
    chunk = Coded.of(np.arange(5, dtype=np.uint32), bytes(8), ["one.png", "two.png"])
    header = dataclasses.replace(HEADER, images=8)
    with pytest.raises(Damaged, match="has 2 names of 8 images"):
        Container.of_bytes(container.front(header, [chunk.entry]) + chunk.payload).payload(0)


def test_a_digest_is_of_images_and_labels():
    images, labels = np.zeros((2, 2, 2, 1), np.uint8), np.array([1, 2])
    found = {container.digest(images, None), container.digest(images, labels), container.digest(images, labels[::-1]),
             container.digest(images + np.uint8(1), labels)}  # fmt: skip
    assert len(found) == 4
    assert {len(each) for each in found} == {8}
    assert container.digest(images, labels.astype(np.int64)) == container.digest(images, labels.astype(np.int32))
