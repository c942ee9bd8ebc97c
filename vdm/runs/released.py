"""Released models: folders of weights, config and card, which are only read.

    NAME/model.safetensors    the moving average of the variables, float32, by flat names: network/conv_in/kernel
    NAME/config.json          the run's config
    NAME/text.json            of a model of captions: how they are encoded
    NAME/card.json            what it is: data, commands, measurements, and the SHA-256 of the files above
    NAME/README.md            the card for people

`vdm.open_run` reads such a folder as it reads a run; `vdm push` makes one (`vdm.runs.cards`).
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vdm import safetensors
from vdm.errors import InputError
from vdm.files import printable
from vdm.reading import field, read_bytes, read_json
from vdm.runs.digests import name_of
from vdm.runs.places import CARD, NAME
from vdm.runs.texts import FILE as TEXT
from vdm.training.state import Trained

WEIGHTS, CONFIG, README = "model.safetensors", "config.json", "README.md"
_PROPOSAL = "proposal"
FILES = (WEIGHTS, CONFIG, TEXT)
"""Files that a card has the SHA-256 of; the last need not be there."""
ALL = (*FILES, CARD, README)
"""Whatever else is in the folder is no part of it."""
_FIELDS: dict[str, Any] = {"step": int, "description": str, "licence": str, "data": dict, "files": dict}
MAX_BYTES = 5_000_000
"""Of the weights in the repository's models/."""


def read_card(folder: Path) -> dict[str, Any]:
    """card.json, with what is used of it checked.

    Raises `InputError` for a card that is missing or damaged, and for one of a later format.
    """
    where = folder / CARD
    card = read_json(where)
    version = field(card, "format", int, where)
    if version != 1:
        raise InputError(f"{where}: format={version}: must be 1; a later vdm reads it")
    if not NAME.fullmatch(name := field(card, "name", str, where)):
        raise InputError(f"{where}: name={name!r}: must be letters, digits, '_', '-' and '.'")
    for name, annotation in _FIELDS.items():
        field(card, name, annotation, where)
    if not 0 <= card["step"] < 2**31:
        raise InputError(f"{where}: step={card['step']}: must be from 0 to 2147483647")
    for name in (WEIGHTS, CONFIG):
        field(card, ("files", name, "sha256"), str, where)
    return card


def check_files(folder: Path) -> dict[str, Any]:
    """The card of a released model whose files are those that it names.

    Raises `InputError` for a file that is missing, damaged or changed.
    """
    card = read_card(folder)
    for name in FILES:
        if name in card["files"]:
            size = field(card, ("files", name, "bytes"), int, folder / CARD)
            digest = field(card, ("files", name, "sha256"), str, folder / CARD)
            _check_file(folder / name, size, digest)
    return card


def _check_file(path: Path, size: int, digest: str) -> None:
    """The size is checked first, so that a huge file is refused before it is read."""
    if path.is_file() and (found_size := path.stat().st_size) != size:
        difference = f"has {found_size} bytes, {CARD} has {size}"
    elif (found := sha256(path)) != digest:
        difference = f"SHA-256 is {found[:16]}…, {CARD} has {digest[:16]}…"
    else:
        return
    raise InputError(f"{printable(path)}: {difference}: the file is damaged or was changed")


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits. Raises `InputError` for one that cannot be read."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def read_weights(folder: Path, checkpoint: str, like: Trained) -> Trained:
    """The weights of a released model, as shapes, types and shardings of `like`.

    Raises `InputError` for another checkpoint than `latest`, `best` or its step, a file that is damaged, and weights of
    another architecture.
    """
    step = field(read_card(folder), "step", int, folder / CARD)
    if checkpoint not in ("latest", "best", str(step)):
        raise InputError(f"{folder}: has one checkpoint, of step {step}; there is no {checkpoint!r}")
    arrays = safetensors.read(folder / WEIGHTS).arrays
    wanted = flat(like.ema, like.proposal)
    for name in sorted({*arrays, *wanted}):
        there, here = (_described(each.get(name)) for each in (arrays, wanted))
        if there != here:
            raise InputError(
                f"{folder / WEIGHTS}: is of another architecture: {name} is {there}, the config makes {here}"
            )

    arrays["step"] = np.asarray(step, like.step.dtype)

    def put(path: Sequence[Any], leaf: Any, prefix: str = "") -> jax.Array:
        array = arrays[_flat(prefix, path)]
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: array[index])

    mapped = jax.tree_util.tree_map_with_path
    proposal = mapped(lambda path, leaf: put(path, leaf, _PROPOSAL), like.proposal)
    return Trained(put(("step",), like.step), mapped(put, like.ema), proposal)


def flat(variables: Any, proposal: Any) -> dict[str, Any]:
    """The arrays of a model, and of its objective's proposal where that has some, by flat names."""
    named = {"": variables, _PROPOSAL: proposal}
    return {
        _flat(prefix, path): leaf
        for prefix, tree in named.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _flat(prefix: str, path: Sequence[Any]) -> str:
    return "/".join(filter(None, (prefix, name_of(tuple(path)))))


def _described(array: Any) -> str:
    return "missing" if array is None else f"{array.dtype} {tuple(array.shape)}"


def copy(source: Path, target: Path) -> None:
    """Copies the files of a released model, and no others; a folder that is there is replaced.

    Raises `InputError` if it cannot be written.
    """
    with whole(target) as partial:
        for name in ALL:
            if (source / name).is_file():
                shutil.copyfile(source / name, partial / name)


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` at the end; of an exception, nothing is left.

    Raises `InputError` if it cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
