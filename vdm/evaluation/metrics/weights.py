"""Weights of feature extractors: find and check the files that `vdm metrics convert` makes."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vdm import safetensors
from vdm.errors import InputError
from vdm.evaluation.metrics.published import NETWORKS, Network
from vdm.files import expanded, printable

VARIABLE = "VDM_WEIGHTS"
"""Environment variable that names a file, or a folder of files, to use if none is given."""

# Metadata keys of our files.
NETWORK, CHECKSUM, SOURCE_CHECKSUM = "network", "sha256_of_tensors", "sha256_of_source"


class Weights(NamedTuple):
    """The tensors of a network, and their name in results."""

    state: dict[str, np.ndarray]
    """By PyTorch's names, in float32."""
    digest: str
    """First 16 hexadecimal digits of their checksum, plus "(unknown weights)" if they are not the published ones."""


def load(name: str, path: Path | None = None) -> Weights:
    """Load the weights of one of `NETWORKS` from a file made by `vdm metrics convert`.

    `path` is the file, or a folder with NAME.safetensors; by default it comes from the environment variable
    VDM_WEIGHTS. Raises a one-line `InputError` if there is none, and for a file that is damaged or of another network,
    lacks a tensor, or has a tensor of another shape or with values that are not finite.
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
    """Return a checksum of tensors as results show it."""
    return digest[:16] + ("" if known else " (unknown weights)")


def find(name: str, path: Path | None = None) -> Path:
    """Find the file with the weights of a network; see `load`."""
    published = NETWORKS[name].file
    if path is None:
        given = os.environ.get(VARIABLE, "")
        if not given:
            raise InputError(
                f"no weights of {name}: name a file, or a folder of them, by --weights or by the environment variable "
                f"{VARIABLE}; `vdm metrics convert {published}` makes it from the published file"
            )
        path = expanded(given)
    file = path / (name + safetensors.SUFFIX) if path.is_dir() else path
    if not file.exists():
        raise InputError(f"{printable(file)}: no such file; `vdm metrics convert {published}` makes one")
    if file.suffix in (".pth", ".pt"):
        raise InputError(f"{printable(file)}: `vdm metrics convert {printable(file)}` makes the file to use from it")
    return file


def checked(arrays: Mapping[str, np.ndarray], network: Network, where: str) -> dict[str, np.ndarray]:
    """Return the tensors that a network needs. Raises `InputError` if one is missing, misshapen or not finite."""
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
    """Return the SHA-256 of tensors with their names and shapes, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {state[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(state[name]).data)
    return digest.hexdigest()
