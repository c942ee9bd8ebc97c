"""`vdm metrics convert`: turns published weights of a feature extractor into a file that `weights.load` reads."""

import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vdm import safetensors
from vdm.errors import InputError
from vdm.evaluation.metrics import torch_file
from vdm.evaluation.metrics.published import NETWORKS
from vdm.evaluation.metrics.weights import CHECKSUM, NETWORK, SOURCE_CHECKSUM, checked, checksum, named
from vdm.files import check_writable, printable

UNUSED = re.compile(r"mask_token|AuxLogits\..*|.*\.num_batches_tracked")
"""Tensors in published files that no feature depends on."""


class Converted(NamedTuple):
    """The result of converting a file of weights."""

    file: Path
    name: str
    """Name of the network in `NETWORKS`."""
    digest: str
    """The digest as results show it."""
    source: Path
    source_checksum: str

    @property
    def known(self) -> bool:
        """Whether the source is a file known to hold the published weights."""
        return self.source_checksum in NETWORKS[self.name].checksums

    @property
    def report(self) -> str:
        """The text to print: one line, and a warning if the source is not the published file."""
        published = NETWORKS[self.name].file
        line = f"{printable(self.file)}: weights of {self.name}, {self.digest}"
        if self.known:
            return f"{line}, as published in {published}"
        return (
            f"{line}\nwarning: {printable(self.source)} is not {published} as published: its SHA-256 is "
            f'{self.source_checksum[:16]}…; results will say "unknown weights"'
        )


def convert(source: Path, out: Path | None = None, python: str = sys.executable) -> Converted:
    """Read a .pth, .pt or .safetensors file, recognize its network, and write NAME.safetensors.

    `out` is the file to write, with that suffix, or a folder for it; by default it is written next to the source.
    PyTorch reads a .pth file, in a process of the interpreter `python`. DINOv2 may also have Hugging Face's names.
    Raises a one-line `InputError` for a file that is not one of these, holds objects other than tensors, or belongs to
    another network.
    """
    where = printable(source)
    if not source.is_file():
        raise InputError(f"{where}: {'is not a file' if source.exists() else 'no such file'}")
    check_writable(_folder(out or source.parent), "--out")
    with tempfile.TemporaryDirectory() as folder:
        if source.suffix == safetensors.SUFFIX:
            arrays, metadata = safetensors.read(source)
            if NETWORK in metadata:
                raise InputError(f"{where}: was made by `vdm metrics convert`; nothing is left to do")
        else:
            arrays, _ = safetensors.read(_unpickled(source, Path(folder), python))
        arrays = _in_float32(_published_names(arrays, where))
        name = recognised(arrays, where)
        state = checked(arrays, NETWORKS[name], f"{where}: as weights of {name}")
        file = _file(out or source.parent, name)
        if file.exists() and file.samefile(source):
            raise InputError(f"--out={printable(file)}: is the file to convert; must be another")
        digest = checksum(state)
        with source.open("rb") as opened:
            source_checksum = hashlib.file_digest(opened, "sha256").hexdigest()
        file.parent.mkdir(parents=True, exist_ok=True)
        safetensors.write(file, state, {NETWORK: name, CHECKSUM: digest, SOURCE_CHECKSUM: source_checksum})
    known = source_checksum in NETWORKS[name].checksums
    return Converted(file, name, named(digest, known), source, source_checksum)


def _folder(out: Path) -> Path:
    return out.parent if out.suffix == safetensors.SUFFIX else out


def _file(out: Path, name: str) -> Path:
    return out if out.suffix == safetensors.SUFFIX else out / (name + safetensors.SUFFIX)


def recognised(arrays: Mapping[str, np.ndarray], where: str) -> str:
    """Return the network that shares most tensors. Raises `InputError` if none has half, or for an extra tensor."""
    shared = {
        name: sum(name in arrays and arrays[name].shape == shape for name, shape in network.tensors.items())
        for name, network in NETWORKS.items()
    }
    best = max(shared, key=lambda name: shared[name])
    if 2 * shared[best] < len(NETWORKS[best].tensors):
        published = ", ".join(network.file for network in NETWORKS.values())
        raise InputError(f"{where}: has the tensors of no known network; must be one of {published}")
    others = [name for name in arrays if name not in NETWORKS[best].tensors and not UNUSED.fullmatch(name)]
    if others:
        raise InputError(f"{where}: has a tensor {others[0]!r}, unknown to {best}; must be {NETWORKS[best].file}")
    return best


def _in_float32(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the floating-point arrays in float32."""
    return {name: np.asarray(array, np.float32) for name, array in arrays.items() if array.dtype.kind == "f"}


# Hugging Face's names of a vision transformer's tensors, and those in the published file.
OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
IN_BLOCK = {
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
JOINED = ("query", "key", "value")


def _published_names(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Rename arrays from Hugging Face's names to those of the published file; leave others unchanged."""
    renamed: dict[str, np.ndarray] = {}
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        block = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", name)
        inner = block[2] if block else name
        if joined := re.fullmatch(r"attention\.attention\.(query|key|value)\.(weight|bias)", inner):
            parts.setdefault(f"blocks.{block[1] if block else ''}.attn.qkv.{joined[2]}", {})[joined[1]] = array
            continue
        for theirs, published in (IN_BLOCK if block else OUTSIDE).items():
            inner = re.sub(rf"^{re.escape(theirs)}(?=\.|$)", published, inner)
        renamed[f"blocks.{block[1]}.{inner}" if block else inner] = array
    for name, three in parts.items():
        missing = [part for part in JOINED if part not in three]
        if missing:
            raise InputError(f"{where}: has no attention.{missing[0]} that belongs to {name}")
        renamed[name] = np.concatenate([three[part] for part in JOINED])
    return renamed


def _unpickled(source: Path, folder: Path, python: str) -> Path:
    """Convert a PyTorch file to safetensors in `folder`, by an interpreter that has PyTorch."""
    where, out = printable(source), folder / "tensors.safetensors"
    _check_pickle(source, where)
    program = shutil.which(python)
    if program is None:
        raise InputError(f"--python={python}: no such program; must be an interpreter of Python that has PyTorch")
    command = [os.path.abspath(program), "-c", inspect.getsource(torch_file), str(source.absolute()), str(out)]
    try:
        # Run in that folder, so that no stray module is imported.
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise InputError(f"--python={python}: {error.strerror}; must be an interpreter of Python") from error
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode == torch_file.NO_TORCH:
        raise InputError(f"{where}: --python={python} {said}; name an interpreter that has it, by --python=PYTHON")
    if done.returncode == torch_file.REFUSED:
        raise InputError(f"{where}: {said}")
    if done.returncode or not out.exists():
        raise InputError(f"{where}: --python={python} ended with status {done.returncode}: {said}")
    return out


def _check_pickle(source: Path, where: str) -> None:
    """Raise `InputError` if it is not a PyTorch file, or if it is a zip that expands: PyTorch does not compress."""
    with source.open("rb") as file:
        start = file.read(4)
    if start[:1] == b"\x80":  # a pickle, as PyTorch wrote them before 1.6
        return
    if start != b"PK\x03\x04":
        raise InputError(f"{where}: is neither a .pth file from PyTorch nor a {safetensors.SUFFIX} file")
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(f"{where}: is truncated or damaged ({error})") from error
    if sum(member.file_size for member in members) > source.stat().st_size:
        raise InputError(f"{where}: declares more than it holds; PyTorch does not compress")
