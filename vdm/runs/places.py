"""Where runs are found (a folder, or `vdm:NAME` for a released model), and where their results go.

A released model is a read-only folder with `card.json` (see `vdm.runs.released`). `vdm:NAME` is the folder NAME in the
first of `PLACES` that has one.
"""

import difflib
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path

from vdm.errors import InputError
from vdm.files import cache_path
from vdm.reading import shown

PREFIX = "vdm:"
CARD = "card.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Pattern of the names of released models."""

_CHECKOUT = Path(__file__).parents[2] / "models"


def pulled() -> Path | None:
    """Return the folder of models downloaded by `vdm pull`; None without a home directory."""
    return cache_path("models")


def _given() -> Path | None:
    text = os.environ.get("VDM_MODELS")
    return Path(text) if text else None


def _installed() -> Path | None:
    """Return the folder of the package `vdm-models`."""
    spec = importlib.util.find_spec("vdm_models")
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(locations[0]) if locations else None


PLACES: tuple[Callable[[], Path | None], ...] = (_given, pulled, _installed, lambda: _CHECKOUT)
"""Folders of released models by priority: VDM_MODELS, `vdm pull`, the package vdm-models, the source checkout."""


def is_released(folder: Path) -> bool:
    """Whether this is the folder of a released model."""
    return (folder / CARD).is_file()


def known() -> dict[str, Path]:
    """Return the folders of all released models on this machine, by name."""
    found: dict[str, Path] = {}
    for place in filter(None, (place() for place in PLACES)):
        folders = sorted(place.iterdir()) if place.is_dir() else []
        found = {f.name: f for f in folders if is_released(f) and NAME.fullmatch(f.name)} | found
    return dict(sorted(found.items()))


def located(run: str | Path) -> Path:
    """Return the folder of a run, given by path or as `vdm:NAME`.

    Raises `InputError` for a NAME that is not among `known`.
    """
    text = str(run)
    if not text.startswith(PREFIX):
        return Path(run)
    name, models = text.removeprefix(PREFIX), known()
    if name in models:
        return models[name]
    near = difflib.get_close_matches(name, models, n=1)
    hint = f"did you mean {PREFIX}{near[0]}? " if near else ""
    listed = ", ".join(models) or "none: pip install ./models, or vdm pull"
    raise InputError(f"{shown(text)[1:-1]}: no such released model; {hint}here are {listed}")


def split_checkpoint(text: str) -> tuple[Path, str]:
    """Split RUN or RUN:CHECKPOINT into run and checkpoint; the name of an existing folder may contain a colon.

    >>> split_checkpoint("runs/digits:1000"), split_checkpoint("vdm:digits")
    ((PosixPath('runs/digits'), '1000'), (PosixPath('vdm:digits'), 'latest'))
    """
    prefix = PREFIX if text.startswith(PREFIX) else ""
    run, colon, checkpoint = text.removeprefix(prefix).rpartition(":")
    return (Path(text), "latest") if not colon or Path(text).is_dir() else (Path(prefix + run), checkpoint)


def name_of(folder: Path) -> str:
    """Return a run's name in records: `vdm:NAME` for a released model found under this name, otherwise its path."""
    if is_released(folder) and known().get(folder.name) == folder:
        return f"{PREFIX}{folder.name}"
    return str(folder)


def home(run: str | Path) -> Path:
    """Return the default folder for the results of a run: its own, or runs/vdm_NAME for a released model.

    Raises `InputError` like `located`.
    """
    folder = located(run)
    return Path("runs", f"vdm_{folder.resolve().name}") if is_released(folder) else folder


def check_writable_run(folder: Path, flag: str) -> None:
    """Raise `InputError` for a released model, whose folder is read-only."""
    if str(folder).startswith(PREFIX) or is_released(folder):
        raise InputError(
            f"{flag}={folder}: is a released model, which is only read; give a folder of your own "
            f"(vdm train --init_from={folder} starts from its weights)"
        )
