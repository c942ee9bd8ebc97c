"""The weights of feature extractors: finds and checks the files that `vdm metrics convert` makes."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vdm import safetensors
from vdm.errors import InputError
from vdm.evaluation.metrics.published import NETWORKS, Network
from vdm.files import printable

VARIABLE = "VDM_WEIGHTS"
"""Of the environment: a file, or a folder of them, where none is named."""

# Keys of our files' metadata.
NETWORK, CHECKSUM, SOURCE_CHECKSUM = "network", "sha256_of_tensors", "sha256_of_source"


class Weights(NamedTuple):
    """The tensors of a network, and what results call them."""

    state: dict[str, np.ndarray]
    """By PyTorch's names, float32."""
    digest: str
    """16 hexadecimal digits of their checksum; with "(unknown weights)" if they are not the published ones."""


def load(name: str, path: Path | None = None) -> Weights:
    """The weights of one of `NETWORKS` from a file of `vdm metrics convert`, or from a folder with NAME.safetensors.

    Without a `path` it is what the environment variable VDM_WEIGHTS says. Raises `InputError` in one line where there
    is none, and for a file that is damaged or of another network, lacks a tensor or has one of another shape or with
    numbers that are not finite.
    """
    network, file = NETWORKS[name], find(name, path)
    arrays, metadata = safetensors.read(file)
    where = printable(file)
    if metadata.get(NETWORK) != name:
        there = metadata.get(NETWORK)
        found = f"has the weights of {there}" if there else "was not made by `vdm metrics convert`"
        raise InputError(f"{where}: {found}; must have those of {name}, from {network.file}")
    state = checked(arrays, network, where)
    digest = checksum(state)
    if metadata.get(CHECKSUM) != digest:
        raise InputError(f"{where}: is damaged: its tensors are not those that were written")
    return Weights(state, named(digest, metadata.get(SOURCE_CHECKSUM) in network.checksums))


def named(digest: str, known: bool) -> str:
    """A checksum of tensors as results have it."""
    return digest[:16] + ("" if known else " (unknown weights)")


def find(name: str, path: Path | None = None) -> Path:
    """The file with the weights of a network; see `load`."""
    published = NETWORKS[name].file
    if path is None:
        given = os.environ.get(VARIABLE, "")
        if not given:
            raise InputError(
                f"no weights of {name}: name a file, or a folder of them, by --weights or by the environment variable "
                f"{VARIABLE}; `vdm metrics convert {published}` makes it of the published file"
            )
        path = Path(given).expanduser()
    file = path / (name + safetensors.SUFFIX) if path.is_dir() else path
    if not file.exists():
        raise InputError(f"{printable(file)}: no such file; `vdm metrics convert {published}` makes one")
    if file.suffix in (".pth", ".pt"):
        raise InputError(f"{printable(file)}: `vdm metrics convert {printable(file)}` makes of it the file to name")
    return file


def checked(arrays: Mapping[str, np.ndarray], network: Network, where: str) -> dict[str, np.ndarray]:
    """The tensors that a network needs. Raises `InputError` for one that is missing, of another shape or not finite."""
    for name, shape in network.tensors.items():
        if name not in arrays:
            raise InputError(f"{where}: no tensor {name!r}")
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float32:
            found = f"{array.dtype} {list(array.shape)}"
            raise InputError(f"{where}: tensor {name!r} is {found}; must be float32 {list(shape)}")
        if not np.isfinite(array).all():
            raise InputError(f"{where}: tensor {name!r} has numbers that are not finite")
    return {name: arrays[name] for name in network.tensors}


def checksum(state: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of tensors, with their names and shapes, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {state[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(state[name]).data)
    return digest.hexdigest()
