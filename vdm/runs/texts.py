"""text.json of a run: how its captions became what its network takes."""

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
    """The encoding of captions of the run in `path`; None of one without. Raises `InputError` for a damaged file."""
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
    """What encodes captions of images of the run in `path`: its own, or that of an image–text model that leads to them.

    None of neither. Raises `InputError` for a damaged file, and where there is no such image–text model.
    """
    companion, folder = guide.companion
    own = read_text(path)
    return read_text(clip_folder(path, folder)) if own is None and companion == CLIP else own


def clip_folder(path: Path, folder: str) -> Path:
    """Of the image–text model that a guidance of the run in `path` names. Raises `InputError` where there is none."""
    found = Path(folder) if folder else home(path) / CLIP
    if not found.is_dir():
        raise InputError(f"{found}: no such folder; vdm clip --run={path} makes one")
    return found


def write_text(path: Path, text: Text | None) -> None:
    """Nothing for data without captions."""
    if text is not None:
        write_json(path / FILE, text.to_dict())
