"""text.json of a run: how captions are encoded for its network."""

from pathlib import Path

from vdm import parts
from vdm.data.texts import Text
from vdm.errors import InputError
from vdm.files import write_json
from vdm.guides import CLIP, Guide
from vdm.reading import field, read_json
from vdm.runs.places import home, located

FILE = "text.json"


def read_text(path: Path) -> Text | None:
    """Read the caption encoding of the run in `path`; None if it has none. Raises `InputError` for a damaged file."""
    where = located(path) / FILE
    values = read_json(where, {})
    if not values:
        return None
    name = field(values, "name", str, where)
    try:
        parts.check("text", name)
    except parts.PartError as error:
        raise InputError(f"{where}: name: {error.problem}") from error
    words = field(values, "words", tuple[str, ...], where)
    text = Text(name, field(values, "state", dict, where), frozenset(words))
    try:
        text.check()
    except ValueError as error:
        raise InputError(f"{where}: state: {error}") from error
    return text


def text_of(path: Path, guide: Guide) -> Text | None:
    """Return the caption encoding for the run in `path`: its own, or that of the image–text model that guides it.

    None if there is neither. Raises `InputError` for a damaged file, or if the image–text model is missing.
    """
    companion, folder = guide.companion
    own = read_text(path)
    return read_text(clip_folder(path, folder)) if own is None and companion == CLIP else own


def clip_folder(path: Path, folder: str) -> Path:
    """Return the folder of the image–text model that guides the run in `path`. Raises `InputError` if missing."""
    found = Path(folder) if folder else home(path) / CLIP
    if not found.is_dir():
        raise InputError(f"{found}: no such folder; vdm clip --run={path} makes one")
    return found


def write_text(path: Path, text: Text | None) -> None:
    """Write text.json; does nothing for data without captions."""
    if text is not None:
        write_json(path / FILE, text.to_dict())
