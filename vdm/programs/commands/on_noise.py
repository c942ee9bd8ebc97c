"""What the commands `vdm classifier` and `vdm clip` share: each trains a network on a run's noisy images."""

import importlib
from pathlib import Path
from typing import Any

from absl import flags

from vdm.errors import InputError
from vdm.programs import command_line as cli
from vdm.programs.help_text import Given, Own
from vdm.runs.places import home


def define() -> None:
    """Define the flags."""
    cli.define_processes()
    flags.DEFINE_string("run", None, "Folder of the run, or vdm:NAME, whose images and noise to train on (required).")
    flags.DEFINE_string(
        "checkpoint",
        "latest",
        "Checkpoint whose noise schedule to use: latest, best (by test bits/dim) or a step (default: latest).",
    )


def make(name: str, given: Given) -> tuple[Any, str]:
    """Return the default config for the run in --run, and the default --workdir, the folder NAME in that run."""
    if not given.get("run"):
        raise InputError(f"--run: must be given, the folder of a run: vdm {name} --run=runs/digits")
    path = Path(given["run"])
    return _module(name).default_config(path), str(home(path) / name)


def main(name: str, kind: type, description: str | None) -> int:
    """Run the command NAME: train what a config of class `kind` describes, by `train_NAME` of `vdm.programs.NAME`.

    Parses the command line and returns the exit status: see `command_line.run`.
    """

    def program() -> None:
        config, workdir = cli.config(), cli.workdir()
        console = cli.start()
        train, given = getattr(_module(name), f"train_{name}"), flags.FLAGS
        result = train(given.run, config, workdir, given.checkpoint, console=console)
        console.print(f"final test {result}; everything is in {workdir}/", soft_wrap=True)

    own = Own(kind, lambda given: make(name, given), f"RUN/{name}")
    return cli.run(program, description, define, own=own)


def _module(name: str) -> Any:
    return importlib.import_module(f"vdm.programs.{name}")
