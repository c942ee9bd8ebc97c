"""Fetch a released model, which vdm:NAME then opens, from a folder or from the Hugging Face hub.

vdm pull shared/digits
vdm pull hf:owner/digits
vdm pull hf:owner/digits my_digits

It is checked against the SHA-256 in its card, and goes to the user's cache (VDM_CACHE, or ~/.cache/vdm). The hub needs
`pip install 'vdm[hub]'`. Without SOURCE, the released models that are here are listed.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vdm.errors import InputError
from vdm.programs.command_line import Parser
from vdm.reading import shown
from vdm.runs import hub
from vdm.runs.places import NAME, PREFIX, is_released, known, pulled
from vdm.runs.released import check_files, copy, read_card


def main(argv: Sequence[str] | None = None) -> None:
    """Copies it; bad input is one line on stderr and exit status 2."""
    parser = Parser("vdm pull", __doc__)
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="a folder, or hf:OWNER/NAME[@REVISION]")
    parser.add_argument("name", metavar="NAME", nargs="?", help="what vdm:NAME calls it (default: its own name)")
    parser.add_argument("--replace", action="store_true", help="replace another model of this name")
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
    """Copies a released model to the cache. Raises `InputError` for what is none, and for a name that is another's."""
    if not is_released(folder):
        raise InputError(f"{source}: has no card.json, so no released model; vdm push makes one")
    card = check_files(folder)
    name = card["name"] if name is None else name
    if not NAME.fullmatch(name):
        raise InputError(f"{shown(name)}: must be letters, digits, '_', '-' and '.'")
    cache, there = pulled(), known().get(name)
    if cache is None:
        raise InputError("there is no cache to keep it in; VDM_CACHE=FOLDER names one")
    if there is not None and _card(there).get("files") != card["files"] and not replace:
        raise InputError(f"{PREFIX}{name}: is another model, or damaged, {there}; give another NAME, or --replace")
    if there != cache / name or _card(there, check_files) != card:
        copy(folder, cache / name)
    print(f"{PREFIX}{name} is in {cache / name}")


def _card(folder: Path, read: Callable[[Path], dict[str, Any]] = read_card) -> dict[str, Any]:
    """The card of a model that is here already; {} if it is damaged."""
    try:
        return read(folder)
    except InputError:
        return {}
