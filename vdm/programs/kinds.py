"""What the commands do with a run, by the class of its config: the place to add a new kind of run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rich.console import Console

from vdm.config import Config
from vdm.data import Dataset
from vdm.predecessors.config import PredecessorConfig
from vdm.programs import diffusion, hooks, latent_evaluate, latent_sample, predecessors
from vdm.programs.hooks import Hook
from vdm.programs.measured import SCORING
from vdm.programs.task import Task
from vdm.runs import kinds as runs_kinds

Command = Callable[[Any, Path, Console, Any, Path | None], None]
"""(config, workdir, console, the flags' values by name, --out) -> None: runs a command."""


class Kind(NamedTuple):
    """What the commands do with one kind of run; `vdm.runs.kinds` has what is needed to open one."""

    task: Callable[[Any, Any], Task]
    """(config, a model in place of the config's, or None) -> the training task."""
    hooks: Callable[[], list[Hook]]
    """Returns the default hooks."""
    samples: Callable[[Any, Any, Dataset, Console], list[Hook]]
    """(config, model, dataset, console) -> hooks added to any others; also checks the settings of samples."""
    evaluate: Command
    sample: Command
    evaluates_by: Sequence[str] | None
    """Flags of `vdm evaluate` that apply to this kind; None: all."""
    samples_by: Sequence[str] | None
    """Flags of `vdm sample` that apply to this kind; None: all."""


KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        Config: Kind(
            diffusion.task_of,
            hooks.standard,
            diffusion.samples_of,
            diffusion.evaluate,
            diffusion.sample,
            evaluates_by=None,
            samples_by=None,
        ),
        PredecessorConfig: Kind(
            predecessors.task_of,
            predecessors.standard,
            predecessors.samples_of,
            latent_evaluate.evaluate,
            latent_sample.sample,
            evaluates_by=("checkpoint", "importance", "images", "metrics", *SCORING[1]),
            samples_by=("checkpoint", "num", "seed", "decode", "precision", "interpolate", "reconstruct"),
        ),
    }
)


def of(config: Any) -> Kind:
    """Return the kind of run that a config describes."""
    return runs_kinds.of(config, KINDS)
