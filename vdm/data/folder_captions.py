"""Captions of pictures in a folder: a text file beside each picture, or one JSON Lines file for all of them."""

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
"""Captions of all pictures, at the top of the folder: one line {"file": "a/b.png", "text": "a cat"} per picture.

"text" may also be a list: {…, "text": ["a cat", "a gray cat"]}.
"""

SUFFIX = ".txt"
"""Suffix of the text file beside a picture, which holds one caption per line."""

LARGEST = 1 << 20
"""Maximum size of such a file in bytes."""


class Captions(NamedTuple):
    """Captions found in the files of a folder."""

    of: Callable[[str], tuple[str, ...]] | None
    """Return all captions of a picture, given its name; None if there are no captions."""
    notes: tuple[str, ...] = ()
    used: Sequence[str] = ()
    """Files that the captions were read from, so that they are not reported as left out."""


def read_captions(root: Path, pictures: Sequence[str], others: Sequence[str], wanted: Sequence[str]) -> Captions:
    """Read the captions of the pictures `wanted` in `root`; `pictures` are all its pictures, `others` its other files.

    They come from `captions.jsonl` if it exists, otherwise from a .txt file beside each picture. If only some pictures
    have such a file, no captions are returned, and a note says why.

    Raises `InputError`, naming the file (and the line), for invalid UTF-8 or JSON and for invalid or empty captions;
    for `captions.jsonl` also for pictures that do not exist, are listed twice, or are missing from it.
    """
    if FILE in others:
        captions = _of_lines(root / FILE, set(pictures))
        if missing := [name for name in wanted if name not in captions]:
            raise InputError(
                f"{printable(root / FILE)}: {len(missing)} of {len(wanted)} pictures have no caption, such as "
                f"{printable(missing[0])}; all must have one"
            )
        return Captions(captions.__getitem__, (f"captions: {FILE}",), [FILE])
    beside = {name: text for name in wanted if (text := _beside(name)) in set(others)} if others else {}
    if not beside:
        return Captions(None)
    if missing := [name for name in wanted if name not in beside]:
        return Captions(
            None,
            (
                f"{NO_CAPTIONS}{len(missing)} of {len(wanted)} pictures have no {SUFFIX} file beside them, such as "
                f"{printable(missing[0])}",
            ),
        )
    captions = {name: _of_text(root / text) for name, text in beside.items()}
    return Captions(captions.__getitem__, (f"captions: a {SUFFIX} file beside each picture",), [*beside.values()])


def without(counts: Counter[str], used: Sequence[str]) -> Counter[str]:
    """Return the counts of files by suffix, without the files that are used."""
    return counts - Counter(Path(name).suffix.lower() for name in used)


def _beside(picture: str) -> str:
    return f"{picture.rpartition('.')[0]}{SUFFIX}"


def _of_text(path: Path) -> tuple[str, ...]:
    """Return one caption per line, skipping blank lines."""
    where = printable(path)
    if path.stat().st_size > LARGEST:
        raise InputError(f"{where}: has more than {LARGEST} bytes; must be a caption, at most {LONGEST} characters")
    captions = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not captions:
        raise InputError(f"{where}: is empty; must be one or more captions, one per line")
    check_caption(where, *captions)
    return captions


def _of_lines(path: Path, pictures: Set[str]) -> dict[str, tuple[str, ...]]:
    """Return the captions in a JSON Lines file, by picture name."""
    found: dict[str, tuple[str, ...]] = {}
    for where, line in _lines(path):
        values = parse_json(line, where)
        name, text = field(values, "file", str, where), field(values, "text", str | tuple[str, ...], where)
        captions = (text,) if isinstance(text, str) else text
        if name not in pictures:
            raise InputError(f"{where}: no picture {printable(name)} in the folder; must be a path such as a/b.png")
        if name in found:
            raise InputError(f"{where}: {printable(name)} is listed twice; give several captions as a list")
        if not captions or not all(caption.strip() for caption in captions):
            raise InputError(f"{where}: {printable(name)} has an empty caption; must be a text, or a list of texts")
        check_caption(where, *captions)
        found[name] = captions
    return found


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each line that is not blank, with a name for it in messages."""
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if line.strip():
            yield f"{printable(path)}: line {number}", line
