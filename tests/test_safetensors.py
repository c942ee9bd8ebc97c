"""Files of weights: what is written is read; what is damaged, wherever it is, is refused in one line."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vdm import safetensors
from vdm.errors import InputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.safetensors"


def raw(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


def test_what_is_written_is_read(path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 2, (2, 3)).astype(name) for name in ("float64", "float32", "float16", "int64", "bool")
    }
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32), "turned": np.arange(6.0).reshape(2, 3).T}
    safetensors.write(path, arrays, {"é": "ü"})
    found = safetensors.read(path)
    assert found.metadata == {"é": "ü"}
    assert set(found.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)
    assert list(path.parent.iterdir()) == [path]
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode  # whoever may read new files may read this one


def test_every_truncated_file_is_refused(path: Path) -> None:
    safetensors.write(path, {"a": np.float32([1, 2]), "b": np.float32([3])})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=re.escape(str(path))):
            safetensors.read(path)


BAD = {
    "another format": b"PK\x03\x04 and so on for more than eight bytes",
    "a short header": raw(b"{" + bytes(50))[:40],
    "no JSON": raw(b"{,}"),
    "a list": raw({"a": []}),
    "no place": raw({"a": {"dtype": "F32", "shape": [2]}}),
    "no number": raw(one(shape=["2"]), bytes(8)),
    "another size": raw(one(shape=[3]), bytes(8)),
    "a negative size": raw(one(shape=[-1, -2]), bytes(8)),
    "too little": raw(one(), bytes(7)),
    "too much": raw(one(), bytes(9)),
    "a gap": raw(one(data_offsets=[4, 12]), bytes(12)),
    "an overlap": raw(one() | {"b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)),
}


@pytest.mark.parametrize("problem", BAD)
def test_what_is_wrong_is_said_in_one_line(problem: str, path: Path) -> None:
    path.write_bytes(BAD[problem])
    with pytest.raises(InputError, match="is not a whole safetensors file") as error:
        safetensors.read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_no_file(path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        safetensors.read(path)
    with pytest.raises(InputError, match="is not a file"):
        safetensors.read(path.parent)
