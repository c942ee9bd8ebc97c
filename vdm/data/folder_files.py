"""Find the pictures in a folder, and record which files are left out."""

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from vdm.data import pictures
from vdm.errors import InputError
from vdm.files import printable

SHOWN = 4
"""Maximum number of kinds of files that a message lists."""

JUNK = ("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found", "__pycache__")
"""Names that file managers and tools leave behind; ignored, as are names that begin with a dot."""


@dataclass
class Found:
    """The contents of a folder."""

    names: list[str] = field(default_factory=list)
    """Paths of the pictures, relative to the folder, with "/" as separator; sorted."""
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Paths of the other files that are not hidden."""
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """For each reason to leave files out, how many of which kind."""


def find(root: Path) -> Found:
    """Find the pictures below `root`, following links and visiting each folder once. Raises `InputError` if none."""
    found, seen = Found(), set()
    # Links come last, so that files inside `root` are listed under their own path.
    folders, links = [""], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            status = (root / folder).stat()
            with os.scandir(root / folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{printable(folder) or 'it'} cannot be read: {error.strerror}") from None
        if (status.st_dev, status.st_ino) in seen:
            found.left_out["links to folders already found"][f"{folder}/"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        found.folders.append(folder)
        for entry in entries:
            inside = f"{folder}/{entry.name}" if folder else entry.name
            suffix = os.path.splitext(entry.name)[1].lower()
            # `entry.is_dir` would raise for some broken links.
            is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
            if entry.name.startswith(".") or entry.name.lower() in JUNK:
                found.left_out["hidden"][f"{entry.name}/" if is_folder else "files"] += 1
            elif is_folder:
                (links if entry.is_symlink() else folders).append(inside)
            elif not (os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()):
                found.left_out["special files or broken links"][inside] += 1
            elif suffix in pictures.SUFFIXES:
                found.names.append(inside)
            else:
                found.others.append(inside)
                found.left_out["of other types"][suffix or "no suffix"] += 1
    if not found.names:
        others = "".join(f"; {what}: {counted(which)}" for what, which in found.left_out.items())
        raise InputError(f"no pictures ({', '.join(pictures.SUFFIXES)}){others}")
    found.names.sort()
    return found


def counted(which: Counter[str]) -> str:
    """List the most frequent kinds with their counts: "40 .txt, 2 .json, 3 others"."""
    named = [f"{number} {each}" for each, number in which.most_common(SHOWN)]
    others = which.total() - sum(number for _, number in which.most_common(SHOWN))
    return ", ".join(named + [f"{others} others"] * bool(others))
