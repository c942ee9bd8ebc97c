"""The modes of comparison: `MODES` maps each to a package with its settings, measurements and table."""

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
"""By what is compared, the module that defines the `MODE`."""


class Mode(NamedTuple):
    """One mode of comparison."""

    settings: type[Any]
    """The dataclass of the mode's settings."""
    compare: Callable[..., str]
    """Measure what is still missing, write it to a folder, and return the Markdown tables.

    compare(config, settings, workdir, console, programs) trains the runs that it compares, using `programs`
    (`vdm.comparisons.work.Programs`). A mode that compares on one trained run has the additional arguments (run,
    checkpoint).
    """
    of_a_run: str | None = None
    """For a mode on one trained run: the default output folder inside that run. None for the other modes."""


def load(name: str) -> Mode:
    """Return the mode with a name in `MODES`."""
    mode: Mode = importlib.import_module(MODES[name]).MODE
    return mode
