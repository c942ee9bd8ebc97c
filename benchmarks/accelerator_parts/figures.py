"""What a part has measured so far, on disk: a part that is cut off loses only what it was about."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vdm.files import write_json


@dataclass
class Figures:
    """Numbers by name, written anew whenever some come in."""

    path: Path
    small: bool
    """Whether everything is at toy size: to see that it runs."""
    folder: Path
    """Of all parts of one run, for what one leaves to the next."""
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, **values: Any) -> None:
        self.values |= values
        write_json(self.path, self.values)
