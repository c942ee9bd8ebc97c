"""Describe this installation for a bug report: versions, machine, devices, caches and settings.

vdm info
vdm info --json

Nothing is sent anywhere. Values of variables whose names suggest keys, tokens, secrets or passwords are left out, and
the path of your home folder is written as ~.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from vdm.programs import info
from vdm.programs.arguments import Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the description."""
    parser = Parser("vdm info", __doc__)
    parser.add_argument("--json", action="store_true", help="as JSON")
    given = parser.parse_args(argv)
    found = info.collected()
    print(json.dumps(found, indent=2) if given.json else "\n".join(lines(found)))


def lines(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines to print: each group's name, then a line for each name and value in it."""
    width = max(len(name) for group in found.values() for name in group)
    for number, (group, values) in enumerate(found.items()):
        yield f"{chr(10) * bool(number)}{group}"
        for name, value in (values or {"none": ""}).items():
            yield f"  {name:<{width}}  {'none' if value is None else value}".rstrip()
