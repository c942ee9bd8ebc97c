"""The format against the bytes of the library that defines it; what is damaged is refused in one line."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vdm import safetensors
from vdm.errors import InputError

# What safetensors.numpy.save of safetensors 0.8.0 makes of `ARRAYS` and {"network": "line"}.
THEIRS = (
    b'\xd8\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{"network":"line"},"count":{"dtype":"I64","shape":[],'
    b'"data_offsets":[0,8]},"slope":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},"none":{"dtype":"F16",'
    b'"shape":[0,2],"data_offsets":[16,16]}}     \x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@'
)
ARRAYS = {"count": np.array(3, np.int64), "slope": np.float32([[1, 2]]), "none": np.zeros((0, 2), np.float16)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.safetensors"


def raw(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


def test_it_is_the_librarys_format(path: Path) -> None:
    path.write_bytes(THEIRS)
    found = safetensors.read(path)
    assert found.metadata == {"network": "line"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)
    safetensors.write(path, ARRAYS, found.metadata)
    assert path.read_bytes() == THEIRS


def test_what_is_written_is_read(path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {dtype: rng.integers(0, 2, (2, 3)).astype(dtype) for dtype in safetensors.DTYPES.values()}
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32), "turned": np.arange(6.0).reshape(2, 3).T}
    safetensors.write(path, arrays, {"é": "ü"})
    found = safetensors.read(path)
    assert found.metadata == {"é": "ü"}
    assert list(found.arrays) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)
    assert list(path.parent.iterdir()) == [path]


def test_no_arrays(path: Path) -> None:
    safetensors.write(path, {})
    assert safetensors.read(path) == ({}, {})


def test_every_truncated_file_is_refused(path: Path) -> None:
    safetensors.write(path, {"a": np.float32([1, 2]), "b": np.float32([3])})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=re.escape(str(path))):
            safetensors.read(path)


BAD = {
    "is not a safetensors file": b"PK\x03\x04 and so on for more than eight bytes",
    "is truncated, or is not": raw(b"{" + bytes(50))[:40],
    "header: not valid JSON": raw(b"{,}"),
    "a: found a list; must be a table": raw({"a": []}),
    "has no a.data_offsets": raw({"a": {"dtype": "F32", "shape": [2]}}),
    "a.shape=": raw(one(shape=["2"]), bytes(8)),
    "array 'a' is of dtype 'BF16'; must be of F64, F32": raw(one(dtype="BF16"), bytes(8)),
    r"array 'a' is F32 \[3\], but at bytes \[0, 8\]": raw(one(shape=[3]), bytes(8)),
    r"array 'a' is F32 \[-1, -2\]": raw(one(shape=[-1, -2]), bytes(8)),
    r"array 'a' is F32 \[2\], but at bytes \[0, 8, 8\]": raw(one(data_offsets=[0, 8, 8]), bytes(8)),
    "is truncated: 7 bytes of arrays, of 8": raw(one(), bytes(7)),
    "has more than its header says: 9 bytes of arrays, of 8": raw(one(), bytes(9)),
    "array 'a' begins at byte 4; must at 0": raw(one(data_offsets=[4, 12]), bytes(12)),
    "array 'b' begins at byte 4; must at 8": raw(
        one() | {"b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)
    ),
    "__metadata__=": raw({"__metadata__": 3}),
}


@pytest.mark.parametrize("problem", BAD)
def test_what_is_wrong_is_said_in_one_line(problem: str, path: Path) -> None:
    path.write_bytes(BAD[problem])
    with pytest.raises(InputError, match=problem) as error:
        safetensors.read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_no_file(path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        safetensors.read(path)
    with pytest.raises(InputError, match="is not a file"):
        safetensors.read(path.parent)
