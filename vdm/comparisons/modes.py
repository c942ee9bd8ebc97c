"""The kinds of comparison there are: `MODES` has a line for each, a package with its settings, measuring and table."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

MODES = {
    "steps": "vdm.comparisons.steps",
    "objective": "vdm.comparisons.objectives",
    "sampler": "vdm.comparisons.samplers",
    "guidance": "vdm.comparisons.guidance",
    "codec": "vdm.comparisons.codecs",
    "family": "vdm.comparisons.families",
    "text": "vdm.comparisons.texts",
}
"""By what differs, the module whose `MODE` it is."""


class Mode(NamedTuple):
    """One kind of comparison."""

    settings: type[Any]
    """The dataclass of its settings."""
    compare: Callable[..., str]
    """Measures what is not measured yet, writes it to a folder, and returns the Markdown tables.

    compare(config, settings, workdir, console, programs) trains what it compares, by a `vdm.comparisons.work.Programs`;
    one of a trained run is compare(config, settings, workdir, console, programs, run, checkpoint).
    """
    of_a_run: str | None = None
    """Where it compares things on one trained run: the folder in that run that it writes to by default."""


def load(name: str) -> Mode:
    """The mode of a name in `MODES`."""
    mode: Mode = importlib.import_module(MODES[name]).MODE
    return mode
