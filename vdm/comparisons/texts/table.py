"""Tables of obedience to captions by guidance and attribute: test captions, and combinations unseen in training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vdm.comparisons import tables
from vdm.evaluation.metrics import Estimate

NO_TEXT, TEXT, REAL = "no caption", "captions", "real images"
"""Rows: the model with its captions dropped, with captions but without guidance, and the real test images."""
TEST, HELD_OUT = "captions of test images", "combinations never seen in training"
"""The two kinds of captions to sample with."""


class Row(NamedTuple):
    """The results of the samples of one guidance method."""

    name: str
    """`NO_TEXT`, `TEXT`, the guidance as in the config, or `REAL`."""
    estimates: Mapping[str, Mapping[str, Estimate]]
    """By kind of captions and by attribute: the percentage of samples that match."""


def attributes(rows: Sequence[Row], asked: str) -> list[str]:
    """Return all attributes that occur in the rows, in order."""
    return list(dict.fromkeys(name for row in rows for name in row.estimates.get(asked, {})))


def markdown(rows: Sequence[Row]) -> str:
    """Format a table for each kind of captions: guidance methods as rows, attributes as columns, standard errors."""
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
