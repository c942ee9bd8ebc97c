"""Obedience by guidance and attribute: of captions of test images, and of combinations never seen in training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vdm.comparisons import tables
from vdm.evaluation.metrics import Estimate

NO_TEXT, TEXT, REAL = "no caption", "captions", "real images"
"""The model without its captions, with them, unguided, and the test images themselves."""
TEST, HELD_OUT = "captions of test images", "combinations never seen in training"
"""What is asked for."""


class Row(NamedTuple):
    """What the samples of one guidance came to."""

    name: str
    """`NO_TEXT`, `TEXT`, the guidance as the config has it, or `REAL`."""
    estimates: Mapping[str, Mapping[str, Estimate]]
    """By what is asked for, by attribute: the share of samples that have it, in per cent."""


def attributes(rows: Sequence[Row], asked: str) -> list[str]:
    """Of all rows, in order."""
    return list(dict.fromkeys(name for row in rows for name in row.estimates.get(asked, {})))


def markdown(rows: Sequence[Row]) -> str:
    """A table for each that is asked for: guidances down, attributes across, with their standard errors."""
    lines: list[str] = []
    for asked in (TEST, HELD_OUT):
        there = [row for row in rows if asked in row.estimates]
        if not there:
            continue
        names = attributes(there, asked)
        lines += ["", f"{asked.capitalize()}: samples that are as asked, %", ""]
        lines += tables.head("", names)
        for row in there:
            estimates = row.estimates[asked]
            lines.append(tables.row(row.name, [_cell(estimates[name]) if name in estimates else "" for name in names]))
    return "\n".join(lines[1:])


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ± {estimate.stderr:.1f}"
