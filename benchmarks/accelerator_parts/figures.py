"""Figures that a part has measured so far, kept on disk so that a part that is cut off loses only the current one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vdm.files import write_json


@dataclass
class Figures:
    """Numbers by name; the file is rewritten whenever some are added."""

    path: Path
    small: bool
    """Whether everything is at toy size, to check that it runs."""
    folder: Path
    """Folder shared by all parts of a run, for what one part leaves to the next."""
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, **values: Any) -> None:
        self.values |= values
        write_json(self.path, self.values)
