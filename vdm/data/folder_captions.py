"""Captions of pictures in a folder: a text file beside each, or one file of JSON lines for all."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from vdm.data.dataset import NO_CAPTIONS
from vdm.data.texts import LONGEST, check_caption
from vdm.errors import InputError
from vdm.files import printable
from vdm.reading import field, parse_json, read_bytes, read_text

FILE = "captions.jsonl"
"""Of all pictures, at the top: {"file": "a/b.png", "text": "a cat"} a line, or {…, "text": ["a cat", "a grey cat"]}."""

SUFFIX = ".txt"
"""Of the file beside a picture: a caption, or several, one a line."""

LARGEST = 1 << 20
"""Bytes of such a file."""


class Captions(NamedTuple):
    """What a folder's files say of its pictures."""

    of: Callable[[str], tuple[str, ...]] | None
    """All captions of a picture by its name; None if there are none."""
    notes: tuple[str, ...] = ()
    used: Sequence[str] = ()
    """The files that they are from, which are not left out."""


def read_captions(root: Path, pictures: Sequence[str], others: Sequence[str], wanted: Sequence[str]) -> Captions:
    """Of the `wanted` pictures in `root`, all of which are `pictures`; `others` are its other files.

    From `captions.jsonl`, if it is there; else from a .txt file beside each picture. Where only some have one, there
    are no captions, and a note says so.

    Raises `InputError` that names the file, and the line, for what is no UTF-8, no JSON, no caption, or empty, and of
    `captions.jsonl` for pictures that are not there, that are there twice, and that have none.
    """
    if FILE in others:
        captions = _of_lines(root / FILE, set(pictures))
        if missing := [name for name in wanted if name not in captions]:
            raise InputError(
                f"{printable(root / FILE)}: {len(missing)} of {len(wanted)} pictures have no caption, as "
                f"{printable(missing[0])}; must be all"
            )
        return Captions(captions.__getitem__, (f"captions: {FILE}",), [FILE])
    beside = {name: text for name in wanted if (text := _beside(name)) in set(others)} if others else {}
    if not beside:
        return Captions(None)
    if missing := [name for name in wanted if name not in beside]:
        return Captions(
            None,
            (
                f"{NO_CAPTIONS}{len(missing)} of {len(wanted)} pictures have no {SUFFIX} file beside them, as "
                f"{printable(missing[0])}",
            ),
        )
    captions = {name: _of_text(root / text) for name, text in beside.items()}
    return Captions(captions.__getitem__, (f"captions: a {SUFFIX} file beside each picture",), [*beside.values()])


def without(counts: Counter[str], used: Sequence[str]) -> Counter[str]:
    """Numbers of files by suffix, without those that are used."""
    return counts - Counter(Path(name).suffix.lower() for name in used)


def _beside(picture: str) -> str:
    return f"{picture.rpartition('.')[0]}{SUFFIX}"


def _of_text(path: Path) -> tuple[str, ...]:
    """A caption a line, without blank lines."""
    where = printable(path)
    if path.stat().st_size > LARGEST:
        raise InputError(f"{where}: has more than {LARGEST} bytes; must be a caption, at most {LONGEST} characters")
    captions = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not captions:
        raise InputError(f"{where}: is empty; must be a caption, or several, one a line")
    check_caption(where, *captions)
    return captions


def _of_lines(path: Path, pictures: Set[str]) -> dict[str, tuple[str, ...]]:
    """By the picture's name, of each line."""
    found: dict[str, tuple[str, ...]] = {}
    for where, line in _lines(path):
        values = parse_json(line, where)
        name, text = field(values, "file", str, where), field(values, "text", str | tuple[str, ...], where)
        captions = (text,) if isinstance(text, str) else text
        if name not in pictures:
            raise InputError(f"{where}: no picture {printable(name)} in the folder; must be one, as a/b.png")
        if name in found:
            raise InputError(f"{where}: {printable(name)} is there twice; several captions are a list")
        if not captions or not all(caption.strip() for caption in captions):
            raise InputError(f"{where}: {printable(name)} has an empty caption; must be a text, or a list of texts")
        check_caption(where, *captions)
        found[name] = captions
    return found


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """What to call each line that is not blank, and what is in it."""
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if line.strip():
            yield f"{printable(path)}: line {number}", line
