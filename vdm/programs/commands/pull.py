"""Fetch a released model from a folder or from the Hugging Face hub; vdm:NAME then opens it.

vdm pull shared/digits
vdm pull hf:owner/digits
vdm pull hf:owner/digits my_digits

Its files are checked against the sizes and SHA-256 digests in its card and kept in your cache (VDM_CACHE, or
~/.cache/vdm). The hub needs `pip install 'vdm[hub]'`. Without SOURCE, list the released models on this machine.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vdm.errors import InputError
from vdm.programs.arguments import Parser
from vdm.reading import shown
from vdm.runs import hub
from vdm.runs.places import NAME, PREFIX, is_released, known, pulled
from vdm.runs.released import check_files, copy, read_card


def main(argv: Sequence[str] | None = None) -> None:
    """Copy the model to the cache. Bad input gives one line on stderr and exit status 2."""
    parser = Parser("vdm pull", __doc__)
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="a folder, or hf:OWNER/NAME[@REVISION]")
    parser.add_argument("name", metavar="NAME", nargs="?", help="its name in vdm:NAME (default: the name in its card)")
    parser.add_argument("--replace", action="store_true", help="replace another model of the same name")
    given = parser.parse_args(argv)
    with parser.one_line():
        if given.source is None:
            for name, here in known().items():
                print(f"{PREFIX}{name}  {_card(here).get('description', 'is damaged')}  ({here})")
        elif hub.is_hub(given.source):
            repo = hub.repo_of(given.source)
            with tempfile.TemporaryDirectory() as folder:
                hub.download(repo, Path(folder))
                _keep(Path(folder), given.source, given.name, given.replace)
        else:
            _keep(Path(given.source), given.source, given.name, given.replace)


def _keep(folder: Path, source: str, name: str | None, replace: bool) -> None:
    """Copy a released model to the cache.

    Raises `InputError` for a folder that is not a released model, and for a name that another model has.
    """
    if not is_released(folder):
        raise InputError(f"{source}: has no card.json, so it is not a released model; vdm push makes one")
    card = check_files(folder)
    name = card["name"] if name is None else name
    if not NAME.fullmatch(name):
        raise InputError(f"{shown(name)}: must be letters, digits, '_', '-' and '.'")
    cache, there = pulled(), known().get(name)
    if cache is None:
        raise InputError("there is no cache folder to keep it in; set VDM_CACHE=FOLDER")
    if there is not None and _card(there).get("files") != card["files"] and not replace:
        raise InputError(f"{PREFIX}{name}: is another model, or damaged, {there}; give another NAME, or --replace")
    if there != cache / name or _card(there, check_files) != card:
        copy(folder, cache / name)
    print(f"{PREFIX}{name} is in {cache / name}")


def _card(folder: Path, read: Callable[[Path], dict[str, Any]] = read_card) -> dict[str, Any]:
    """The card of a model that is already on this machine; {} if it is damaged."""
    try:
        return read(folder)
    except InputError:
        return {}
