"""Files of arrays: what numpy wrote comes back; what is damaged, or made to do damage, is one line and no memory."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vdm.errors import InputError
from vdm.npz import LIMIT_FREE, array_names, read_npz

ARRAYS = {
    "images": np.random.default_rng(0).integers(0, 9, (6, 4, 4, 1), dtype=np.uint8),
    "labels": np.arange(6),
    "one": np.array(3.5),
    "none": np.zeros((0, 3), np.float32),
}


def refusal(path: Path, *words: str, names: list[str] | None = None) -> str:
    """The one line that refuses it, which names the file and these words, and takes no memory to speak of."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as error:
            read_npz(path, names)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
    assert peak < 1 << 22
    return message


def npy(shape: str = "(2, 3)", descr: str = "'|u1'", body: bytes = b"123456") -> bytes:
    """A .npy file that declares what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def write(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_comes_back(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS, turned=np.asfortranarray(ARRAYS["images"]))
    assert array_names(tmp_path / "a.npz") == [*ARRAYS, "turned"]
    read = read_npz(tmp_path / "a.npz")
    for name, array in (ARRAYS | {"turned": ARRAYS["images"]}).items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert list(read_npz(tmp_path / "a.npz", ["labels"])) == ["labels"]


@settings(deadline=None)
@given(hnp.arrays(hnp.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufc"), hnp.array_shapes(min_dims=0)))
def test_any_array_of_numbers_comes_back(array):
    path = scratch() / "any.npz"
    np.savez_compressed(path, a=array)
    assert read_npz(path)["a"].dtype == array.dtype
    np.testing.assert_array_equal(read_npz(path)["a"], array)


@settings(deadline=None)
@given(st.data())
def test_of_a_damaged_file_no_array_is_another(data):
    """Bytes overwritten, cut out or cut off: the arrays come back as they were, or one line says what is wrong."""
    stream = io.BytesIO()
    (np.savez if data.draw(st.booleans()) else np.savez_compressed)(stream, **ARRAYS)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    path = scratch() / "damaged.npz"
    path.write_bytes(content)
    try:
        read = read_npz(path)
    except InputError:
        refusal(path)
        return
    for name in set(read) & set(ARRAYS):
        np.testing.assert_array_equal(read[name], ARRAYS[name])


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (npy(shape="(99999999999, 3)"), ["declares shape (99999999999, 3)", "6 bytes"]),
        (npy(shape=f"({2**62}, 4)"), ["declares shape"]),
        (npy(shape="(-2, -3)"), ["declares shape"]),
        (npy(shape="(2, 2)"), ["declares shape (2, 2)"]),
        (npy(descr="'|V0'", shape="(99999999999,)"), ["must be numbers"]),
        (npy(descr="'|O'"), ["must be numbers"]),
        (npy(descr="'|S6'", shape="()"), ["must be numbers"]),
        (npy(descr="[('x', '|u1')]"), ["must be numbers"]),
        (npy(shape="'" + "x" * 20000 + "'"), []),
        (npy(shape="(" * 3000 + ")" * 3000), []),
        (npy()[:-1], ["declares shape (2, 3)"]),
        (npy()[:20], []),
        (b"\x93NUMPY\x09\x09" + npy()[8:], []),
        (b"a text", []),
        (b"", []),
    ],
)
def test_members_that_are_not_what_they_say(tmp_path, member, words):
    refusal(write(tmp_path / "a.npz", x=npy(), bad=member), "array 'bad'", *words)
    assert list(read_npz(tmp_path / "a.npz", ["x"])) == ["x"]


def test_a_bomb_is_not_unpacked(tmp_path):
    """Zeros compress to a thousandth: three times the bytes that are free, honestly declared."""
    num = 3 * LIMIT_FREE
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as member,
    ):
        member.write(npy(shape=f"({num},)", body=b""))
        for _ in range(num // (1 << 20)):
            member.write(bytes(1 << 20))
    refusal(tmp_path / "bomb.npz", "array 'x'", "declares 201 MB")


@pytest.mark.parametrize("field", [20, 24])
def test_a_directory_that_lies(tmp_path, field):
    """It says 2 GB for the size in the file (20) or out of it (24) of a member of some bytes."""
    path = write(tmp_path / "a.npz", x=npy())
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    content[start + field : start + field + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    refusal(path)


def test_a_flipped_bit_is_seen_even_in_the_last_byte(tmp_path):
    path = write(tmp_path / "a.npz", x=npy())
    content = path.read_bytes()
    path.write_bytes(content.replace(b"123456", b"123457"))
    refusal(path, "array 'x'", "CRC")


def test_files_that_are_none(tmp_path):
    refusal(tmp_path / "missing.npz", "no such file")
    refusal(tmp_path, "is not a file")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "array.npy", ARRAYS["images"])
    for name in ("text.npz", "empty.npz", "array.npy"):
        refusal(tmp_path / name, "not a readable npz file")


def test_not_every_zip_is_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.png", b"...")
    assert array_names(tmp_path / "photos.zip") == []
    refusal(tmp_path / "photos.zip", "no array 'images'", "none", names=["images"])
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.writestr("a.npy", npy())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", npy())
    refusal(tmp_path / "twice.npz", "'a' appears twice")


def test_a_missing_array_is_named_with_those_there(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    refusal(tmp_path / "a.npz", "no array 'image'", "'images', 'labels'", names=["image"])


def scratch() -> Path:
    """One folder of this process, for tests with many examples."""
    return SCRATCH


@pytest.fixture(autouse=True, scope="module")
def _scratch(tmp_path_factory):
    global SCRATCH  # noqa: PLW0603
    SCRATCH = tmp_path_factory.mktemp("npz")
