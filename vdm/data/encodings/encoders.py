"""sentence-transformers models: where their files are, a digest of these files, and the states of captions.

The package comes with the extra `text` and is imported only when captions are computed.
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
from vdm.files import expanded, printable
from vdm.reading import shown

LIBRARY = "sentence_transformers"
INSTALL = "pip install 'vdm[text]'"
PART_OF_ALL = "modules.json"
"""The file that identifies a folder as a sentence-transformers model."""

DIGITS = 16
"""Number of hexadecimal digits in a digest."""

AT_ONCE = 4096
"""Number of captions whose states are computed before they are cached."""


def digest_of(model: str) -> str:
    """Return the digest of a model's files; if the model is absent, that of the encoder whose states are cached.

    Raises `InputError` if there is neither, or if states of several encoders of this name are cached.
    """
    folder = _local(model)
    known = [] if folder else kept.digests(model)
    if len(known) > 1:
        raise InputError(
            f"frozen({model!r}): is not installed, and the cache has states of {len(known)} encoders of this name"
        )
    return known[0] if known else _digest(folder or _from_hub(model))


def states(model: str, digest: str, captions: Sequence[str]) -> Iterator[States]:
    """Compute the states of captions, some at a time, with the model that has this digest.

    Raises `InputError` if sentence-transformers is not installed, or if the model cannot be found or has another
    digest.
    """
    if not captions:
        return
    library = _library(f"frozen({model!r}): {shown(captions[0])} is not computed yet")
    folder = _local(model) or _from_hub(model)
    if (there := _digest(folder)) != digest:
        raise InputError(
            f"frozen({model!r}): {printable(folder)} is a different encoder ({there}) from that of the run ({digest})"
        )
    try:
        encoder = library.SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True})
    except Exception as error:  # whatever the library raises for an invalid folder
        raise InputError(f"frozen({model!r}): {printable(folder)} cannot be read: {one_line(error)}") from error
    for start in range(0, len(captions), AT_ONCE):
        some = list(captions[start : start + AT_ONCE])
        outputs = encoder.encode(some, output_value=None, show_progress_bar=False)
        yield {caption: _rows(output) for caption, output in zip(some, outputs, strict=True)}


def _rows(output: Any) -> np.ndarray:
    """Return the sentence embedding followed by the token states, without padding, as float32."""
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
    """Return the folder of a model, given directly or inside an installed package; None if there is none."""
    folder = expanded(model)
    if not folder.is_dir() and model.isidentifier() and model != "__main__":
        spec = importlib.util.find_spec(model)
        folder = Path(spec.origin).parent / "model" if spec and spec.origin else folder
    return folder if (folder / PART_OF_ALL).is_file() else None


def _from_hub(model: str) -> Path:
    """Return the cached copy of a model on the hub, downloading it if there is a network."""
    _library(f"frozen({model!r}): is neither a folder nor an installed package")
    try:
        return Path(importlib.import_module("huggingface_hub").snapshot_download(model))
    except Exception as error:  # unknown name, no network, disk full, …
        raise InputError(
            f"frozen({model!r}): neither a folder with {PART_OF_ALL}, nor an installed package that holds one, nor "
            f"available from the hub: {one_line(error)}"
        ) from error


def _digest(folder: Path) -> str:
    """Hash the names and contents of all files except hidden and Markdown files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    return _digest_of_files(str(folder), stamps)


@lru_cache(maxsize=8)
def _digest_of_files(folder: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Cached, so that unchanged files are hashed once."""
    hashed = hashlib.sha256()
    for path, _, size in stamps:
        hashed.update(f"{Path(path).relative_to(folder).as_posix()}\0{size}\0".encode())
        with open(path, "rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()[:DIGITS]
