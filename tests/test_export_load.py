"""What an export's load.py says of files that are damaged: each names the file, in one line."""

import json

import numpy as np
import pytest

from vdm.export import load


def one_line(what):
    with pytest.raises(ValueError, match=r"cannot be read \(") as caught:
        what()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"text", None])
def test_weights(tmp_path, content):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, a=np.arange(1000), b=np.zeros(3))
    assert set(load.arrays(path)) == {"a", "b"}
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3] ^= 4
    path.write_bytes(bytes(whole) if content is None else content)
    assert str(path) in one_line(lambda: load.arrays(path))
    np.savez(path, a=np.array([None]))
    assert str(path) in one_line(lambda: load.arrays(path))


RECORDS = ["[]", "3", "{", "", '{"condition": 3, "batch_size": 1}', '{"condition": {}, "batch_size": "a"}']


@pytest.mark.parametrize("record", RECORDS)
def test_the_record(tmp_path, record):
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"condition": {}, "batch_size": None}))
    assert load.record_of(tmp_path)["batch_size"] is None
    path.write_text(record)
    assert str(path) in one_line(lambda: load.record_of(tmp_path))


def test_the_program(tmp_path):
    for content in (b"", b"abc" * 100):
        (tmp_path / "sampler.bin").write_bytes(content)
        assert "sampler.bin" in one_line(lambda: load.load("sampler", tmp_path))
