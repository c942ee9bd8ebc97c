"""Released models: read-only folders of weights, config and card.

    NAME/model.safetensors    moving average of the variables, float32, under flat names such as network/conv_in/kernel
    NAME/config.json          the run's config
    NAME/text.json            how captions are encoded, for a model conditioned on text
    NAME/card.json            data, commands, measurements, and the size and SHA-256 of each file above
    NAME/README.md            the card as a page to read

`vdm.open_run` opens such a folder as it opens a run. `vdm push` makes one (`vdm.runs.cards`).
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
"""Files whose size and SHA-256 are in the card. Only models of text have the last."""
ALL = (*FILES, CARD, README)
"""All files of a released model. Anything else in the folder is ignored."""
_FIELDS: dict[str, Any] = {"step": int, "description": str, "licence": str, "data": dict, "files": dict}
MAX_BYTES = 5_000_000
"""Largest size of the weights of a model in the repository's models/."""


def read_card(folder: Path) -> dict[str, Any]:
    """Read card.json and check the fields that are used.

    Raises `InputError` if the card is missing, damaged or of a later format.
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
    """Check the files of a released model against its card, and return the card.

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
    """SHA-256 of a file, in hexadecimal digits. Raises `InputError` if it cannot be read."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def read_weights(folder: Path, checkpoint: str, like: Trained) -> Trained:
    """Read the weights of a released model into the shapes, types and shardings of `like`.

    Raises `InputError` for a checkpoint other than `latest`, `best` or the model's step, for a damaged file, and for
    weights of another architecture.
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
    """The arrays of a model, and of its objective's proposal if it has any, by flat names."""
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
    """Copy the files of a released model, and no others, replacing an existing folder.

    Raises `InputError` if the folder cannot be written.
    """
    with whole(target) as partial:
        copy_files(source, partial)


def copy_files(source: Path, folder: Path) -> None:
    """Copy the files of a released model, and no others, into an existing folder."""
    for name in ALL:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into, which replaces `folder` at the end; an exception leaves `folder` unchanged.

    The old folder is deleted only when the new one is in its place. A link to a folder stays a link.

    Raises `InputError` if the folder cannot be written.
    """
    target = folder.resolve()
    partial, old = (target.with_name(f".{target.name}.{suffix}") for suffix in ("partial", "old"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(partial, target)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}") from error
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
