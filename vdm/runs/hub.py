"""Released models on the Hugging Face hub, as hf:OWNER/NAME. Needs the extra `hub`."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vdm.errors import InputError, one_line
from vdm.reading import shown
from vdm.runs.released import ALL

PREFIX = "hf:"
_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", re.ASCII)


def is_hub(text: str) -> bool:
    """Whether a text names a repository on the hub."""
    return text.startswith(PREFIX)


def repo_of(text: str) -> str:
    """The OWNER/NAME or OWNER/NAME@REVISION after hf:. Raises `InputError` if the text has another form.

    >>> repo_of("hf:owner/digits@v1")
    'owner/digits@v1'
    """
    repo = text.removeprefix(PREFIX)
    if not _REPO.fullmatch(repo):
        raise InputError(f"{shown(text)[1:-1]}: must be hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    return repo


def check() -> None:
    """Raise `InputError` if huggingface_hub is not installed."""
    _api()


def download(repo: str, folder: Path) -> None:
    """Download the files of a released model to a folder. Raises `InputError` on failure."""
    name, _, revision = repo.partition("@")
    with _one_line(repo):
        _api().snapshot_download(name, revision=revision or None, local_dir=folder, allow_patterns=list(ALL))


def upload(folder: Path, repo: str) -> str:
    """Upload a released model, making the repository if need be, and return its address.

    Raises `InputError` on failure.
    """
    name, _, revision = repo.partition("@")
    with _one_line(repo):
        api = _api()
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, revision=revision or None, allow_patterns=list(ALL))
    return str(address)


def _api() -> Any:
    """The client for the hub at HF_ENDPOINT, or for the public one."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars
    except ImportError as error:
        raise InputError("hf:…: the Hugging Face hub needs huggingface_hub: pip install 'vdm[hub]'") from error
    disable_progress_bars()  # of a few megabytes
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)


@contextmanager
def _one_line(repo: str) -> Iterator[None]:
    """Turn any failure of a transfer into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the client's own errors, those of its HTTP library, and those of the disk
        raise InputError(f"{PREFIX}{repo}: {type(error).__name__}: {one_line(error)[:200]}") from error
