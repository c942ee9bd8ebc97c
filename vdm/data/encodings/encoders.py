"""sentence-transformers models: where their files are, a digest of these, and the states of captions.

The package is the extra `text`, and imported when captions are computed, not before.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vdm.data.encodings import kept
from vdm.data.encodings.kept import States
from vdm.errors import InputError, one_line
from vdm.files import printable
from vdm.reading import shown

LIBRARY = "sentence_transformers"
INSTALL = "pip install 'vdm[text]'"
PART_OF_ALL = "modules.json"
"""The file by which a folder is a sentence-transformers model."""

DIGITS = 16
"""Of a digest."""

AT_ONCE = 4096
"""Captions whose states are computed, and then kept."""


def digest_of(model: str) -> str:
    """16 hexadecimal digits of the files of a model; where it is not there, of the one whose states are kept.

    Raises `InputError` in one line where there is neither, or several of this name are kept.
    """
    folder = _local(model)
    known = [] if folder else kept.digests(model)
    if len(known) > 1:
        raise InputError(f"frozen({model!r}): is not there, and states of {len(known)} encoders of this name are kept")
    return known[0] if known else _digest(folder or _from_hub(model))


def states(model: str, digest: str, captions: Sequence[str]) -> Iterator[States]:
    """Of these captions, some at a time, by the model of this digest.

    Raises `InputError` in one line where sentence-transformers is not installed, the model cannot be had, or is not
    that of the digest.
    """
    if not captions:
        return
    library = _library(f"frozen({model!r}): {shown(captions[0])} is not computed yet")
    folder = _local(model) or _from_hub(model)
    if (there := _digest(folder)) != digest:
        raise InputError(
            f"frozen({model!r}): {printable(folder)} is another encoder ({there}) than that of the run ({digest})"
        )
    try:
        encoder = library.SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True})
    except Exception as error:  # whatever a folder that is no model leads to
        raise InputError(f"frozen({model!r}): {printable(folder)} cannot be read: {one_line(error)}") from error
    for start in range(0, len(captions), AT_ONCE):
        some = list(captions[start : start + AT_ONCE])
        outputs = encoder.encode(some, output_value=None, show_progress_bar=False)
        yield {caption: _rows(output) for caption, output in zip(some, outputs, strict=True)}


def _rows(output: Any) -> np.ndarray:
    """The sentence's embedding above those of its tokens, without padding, as float32."""
    mask = np.asarray(output["attention_mask"]) > 0
    tokens = np.asarray(output["token_embeddings"], np.float32)[mask]
    return np.concatenate([np.asarray(output["sentence_embedding"], np.float32)[None], tokens])


def _library(why: str) -> Any:
    try:
        return importlib.import_module(LIBRARY)
    except ImportError as error:
        if error.name != LIBRARY:
            raise InputError(f"{why}; sentence-transformers: {one_line(error)}") from error
        raise InputError(f"{why}, and sentence-transformers is not installed: {INSTALL}") from None


def _local(model: str) -> Path | None:
    """A folder, or `model` in an installed package; None of what is neither."""
    folder = Path(model).expanduser()
    if not folder.is_dir() and model.isidentifier() and model != "__main__":
        spec = importlib.util.find_spec(model)
        folder = Path(spec.origin).parent / "model" if spec and spec.origin else folder
    return folder if (folder / PART_OF_ALL).is_file() else None


def _from_hub(model: str) -> Path:
    """Its copy of the hub's, downloaded if there is a network."""
    _library(f"frozen({model!r}): is no folder and no installed package")
    try:
        return Path(importlib.import_module("huggingface_hub").snapshot_download(model))
    except Exception as error:  # a name that is none, no network, no room, …
        raise InputError(
            f"frozen({model!r}): neither a folder with {PART_OF_ALL}, nor an installed package that holds one, nor to "
            f"be had from the hub: {one_line(error)}"
        ) from error


def _digest(folder: Path) -> str:
    """Of the names and contents of all files but hidden ones and notes on them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    return _digest_of_files(str(folder), stamps)


@lru_cache(maxsize=8)
def _digest_of_files(folder: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Once for files that have not changed."""
    hashed = hashlib.sha256()
    for path, _, size in stamps:
        hashed.update(f"{Path(path).relative_to(folder).as_posix()}\0{size}\0".encode())
        with open(path, "rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()[:DIGITS]
