"""Published files of weights as files of ours; a module of a few lines stands in for PyTorch, in its own process."""

import os
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import weight_files
from weight_files import tensors

from vdm import safetensors
from vdm.errors import InputError
from vdm.evaluation.metrics import published, weights
from vdm.evaluation.metrics.convert import convert

FAKE = """
import sys, numpy
class Tensor:
    def __init__(self, array): self.array = array
    def detach(self): return self
    def contiguous(self): return self
    def to(self, dtype): return Tensor(self.array.astype(dtype))
    def numel(self): return self.array.size
    def element_size(self): return self.array.itemsize
    def is_floating_point(self): return self.array.dtype.kind == "f"
    def numpy(self): return self.array
float32, is_tensor = "float32", lambda value: isinstance(value, Tensor)
def load(path, map_location, weights_only):
    assert map_location == "cpu" and weights_only is True
    print("warning: a line of its own", file=sys.stderr)
    with numpy.load(path) as arrays:
        return {name: Tensor(arrays[name]) for name in arrays.files}
"""
"""PyTorch, of which npz files are the .pth files: zips of what is not compressed, too."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, network in weight_files.NETWORKS.items():
        monkeypatch.setitem(published.NETWORKS, name, network)


def interpreter(folder: Path, torch: str = FAKE) -> str:
    """One that has this in place of PyTorch."""
    modules = folder / "modules"
    modules.mkdir()
    (modules / "torch.py").write_text(torch)
    script = modules / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{modules}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def pickled(path: Path, state: dict[str, np.ndarray]) -> Path:
    with path.open("wb") as file:
        np.savez(file, **state)
    return path


def refused(problem: str, *args: object) -> None:
    with pytest.raises(InputError, match=problem) as error:
        convert(*args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", weight_files.NETWORKS)
def test_a_pth_file(name: str, tmp_path: Path) -> None:
    """Of whichever network it is; what no feature depends on is left out."""
    state = tensors(name)
    extra = {"mask_token": np.zeros(3, np.float32), "a.bn.num_batches_tracked": np.array(3)}
    source = pickled(tmp_path / "some.pth", state | extra)
    made = convert(source, tmp_path / "weights", interpreter(tmp_path))
    assert (made.name, made.file, made.known) == (name, tmp_path / "weights" / f"{name}.safetensors", False)
    found = weights.load(name, tmp_path / "weights")
    assert found.digest == made.digest
    assert list(found.state) == list(state)
    for key, tensor in state.items():
        np.testing.assert_array_equal(found.state[key], tensor, strict=True)
    first, warning = made.report.splitlines()
    assert first == f"{made.file}: weights of {name}, {made.digest}"
    published_file = weight_files.NETWORKS[name].file
    assert warning.startswith(f"warning: {source} is not {published_file} as published: its SHA-256 is ")


def test_the_published_file_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "some.safetensors"
    safetensors.write(source, tensors("inception"))
    unknown = convert(source, tmp_path / "unknown.safetensors")
    network = weight_files.NETWORKS["inception"]._replace(checksums=frozenset({unknown.source_checksum}))
    monkeypatch.setitem(published.NETWORKS, "inception", network)
    known = convert(source, tmp_path / "known.safetensors")
    assert known.report == f"{known.file}: weights of inception, {known.digest}, as published in pt_inception.pth"
    assert unknown.digest == known.digest + " (unknown weights)"
    assert weights.load("inception", known.file).digest == known.digest


def huggingface(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A vision transformer's tensors under the names of facebook/dinov2-base on Hugging Face."""
    names = {
        r"^(cls_token|mask_token)$": r"embeddings.\1",
        r"^pos_embed$": "embeddings.position_embeddings",
        r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
        r"^norm\.": "layernorm.",
        r"^blocks\.": "encoder.layer.",
        r"attn\.proj": "attention.output.dense",
        r"ls(\d)\.gamma": r"layer_scale\1.lambda1",
    }
    theirs = {}
    for key, tensor in state.items():
        name = key
        for ours, renamed in names.items():
            name = re.sub(ours, renamed, name)
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), np.split(tensor, 3), strict=True):
                theirs[name.replace("attn.qkv", f"attention.attention.{part}")] = third
        else:
            theirs[name] = tensor
    return theirs


def test_hugging_faces_names(tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    state = tensors("dinov2_vitl14")
    theirs = huggingface(state | {"mask_token": np.zeros((1, 6), np.float32)})
    safetensors.write(source, theirs, {"format": "pt"})
    convert(source)  # beside it
    found = weights.load("dinov2_vitl14", tmp_path)
    assert found.digest.startswith(weights.checksum(state)[:16])  # as of the file with the other names
    for key, tensor in state.items():
        np.testing.assert_array_equal(found.state[key], tensor, strict=True)

    del theirs["encoder.layer.1.attention.attention.key.bias"]
    safetensors.write(source, theirs)
    refused(r"model.safetensors: has no attention.key that belongs to blocks.1.attn.qkv.bias", source)


def test_other_floating_point_numbers_become_float32(tmp_path: Path) -> None:
    state = {name: tensor.astype(np.float16) for name, tensor in tensors("inception").items()}
    python = interpreter(tmp_path)
    safetensors.write(tmp_path / "half.safetensors", state)
    for source in (pickled(tmp_path / "half.pth", state), tmp_path / "half.safetensors"):
        made = convert(source, tmp_path / "made.safetensors", python)
        found = weights.load("inception", made.file).state["fc.weight"]
        np.testing.assert_array_equal(found, state["fc.weight"].astype(np.float32), strict=True)


@pytest.mark.parametrize(
    ("torch", "problem"),
    [
        ("raise ImportError('no torch')", r"--python=\S+ cannot import PyTorch: no torch; name an"),
        ("import pickle\n{}\ndef load(*a, **k): raise pickle.UnpicklingError('os.system')", "holds objects other than"),
        ("{}\ndef load(*a, **k): raise RuntimeError('no end\\nand more')", "cannot be read by PyTorch: no end"),
        ("{}\ndef load(*a, **k): return [1]", "holds a list; must be a dict of tensors"),
        (
            "{}\ndef load(*a, **k): return dict(a=Tensor(numpy.broadcast_to(numpy.float32(0), (10**6, 10**6))))",
            "declares more numbers than it holds",
        ),
        ("import os\n{}\ndef load(*a, **k): os.kill(os.getpid(), 9)", r"--python=\S+ ended with status -9: it said"),
    ],
)  # fmt: skip
def test_what_pytorch_refuses(torch: str, problem: str, tmp_path: Path) -> None:
    source = pickled(tmp_path / "some.pth", tensors("inception"))
    refused(rf"some.pth: .*{problem}", source, tmp_path, interpreter(tmp_path, torch.replace("{}", FAKE)))
    assert sorted(os.listdir(tmp_path)) == ["modules", "some.pth"]


def test_no_interpreter(tmp_path: Path) -> None:
    source = pickled(tmp_path / "some.pth", tensors("inception"))
    refused(r"--python=/nowhere/python: no such program; must be an", source, tmp_path, "/nowhere/python")
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    refused(r"--python=\S+text: Exec format error; must be an", source, tmp_path, str(text))


def test_a_relative_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled(tmp_path / "some.pth", tensors("inception"))
    interpreter(tmp_path)
    monkeypatch.chdir(tmp_path)
    made = convert(Path("some.pth"), python="modules/python")
    assert made.file == Path("inception.safetensors")
    assert weights.load("inception", made.file).digest == made.digest


def test_what_is_no_file_of_pytorchs_is_not_unpickled(tmp_path: Path) -> None:
    """PyTorch would be told of it by an interpreter that is not there."""
    source = tmp_path / "some.pth"
    refused(r"some.pth: no such file", source, None, "/nowhere")
    for data in (b"", b"PK", b"GIF89a"):
        source.write_bytes(data)
        refused(r"some.pth: is neither a .pth file from PyTorch nor a .safetensors file", source, None, "/nowhere")
    whole = pickled(source, tensors("inception")).read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    refused(r"some.pth: is truncated or damaged", source, None, "/nowhere")
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**6))
    refused(r"some.pth: declares more than it holds; PyTorch does not compress", source, None, "/nowhere")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"register_tokens": np.zeros(3, np.float32)}, "has a tensor 'register_tokens', unknown to dinov2_vitb14"),
        ({"norm.bias": np.zeros(5, np.float32)}, r"as weights of dinov2_vitb14: tensor 'norm.bias' is float32 \[5\]"),
        ({"norm.bias": np.full(4, np.nan, np.float32)}, r"as weights of dinov2_vitb14: tensor 'norm.bias' has numbers"),
    ],
)  # fmt: skip
def test_another_network(change: dict[str, np.ndarray], problem: str, tmp_path: Path) -> None:
    source = tmp_path / "some.safetensors"
    safetensors.write(source, tensors("dinov2_vitb14") | change)
    refused(rf"some.safetensors: {problem}", source)
    safetensors.write(source, {"a": np.float32([1])} | change)
    refused(r"has the tensors of no known network; must be one of pt_inception.pth, vitb14.pth", source)
    assert os.listdir(tmp_path) == ["some.safetensors"]


def test_where_it_goes(tmp_path: Path) -> None:
    source = tmp_path / "inception.safetensors"
    safetensors.write(source, tensors("inception"))
    before = source.read_bytes()
    for out in (None, tmp_path, source):
        refused(r"--out=\S+inception.safetensors: is the file to convert; must be another", source, out)
    assert source.read_bytes() == before
    made = convert(source, tmp_path / "new" / "folder" / "mine.safetensors").file
    assert weights.load("inception", made)
    refused(r"mine.safetensors: was made by `vdm metrics convert`; nothing is left to do", made)
    refused(r"--out: cannot write to \S+inception.safetensors/folder", source, source / "folder")
