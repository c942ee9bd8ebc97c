"""Train a classifier on a run's noisy images, p(c|z, γ): to guide its sampler, and to judge its samples.

vdm classifier --run=runs/digits
vdm classifier --run=runs/digits --config.training.steps=500 --workdir=runs/small_classifier

Images and noise are the run's. The same command goes on where it was stopped or killed, to the bit.
"""

from pathlib import Path
from typing import Any

from absl import flags

from vdm.classifier import ClassifierConfig
from vdm.errors import InputError
from vdm.programs import command_line as cli


def define() -> None:
    """The flags."""
    cli.define_processes()
    flags.DEFINE_string("run", None, "Folder of the run whose data and noise it is for; needed.")
    flags.DEFINE_string(
        "checkpoint", "latest", "Whose noise schedule: latest, best (by test bits/dim) or a step (default: latest)."
    )


def make(given: cli.Given) -> tuple[Any, str]:
    """The config for the run in --run, and the folder of its classifier."""
    from vdm.programs.classifier import default_config

    if not given.get("run"):
        raise InputError("--run: must be given, the folder of a run: vdm classifier --run=runs/digits")
    path = Path(given["run"])
    return default_config(path), str(path / "classifier")


def program() -> None:
    """What the command does."""
    config, workdir = cli.config(), cli.workdir()
    console = cli.start()
    from vdm.programs.classifier import train_classifier

    given = flags.FLAGS
    result = train_classifier(given.run, config, workdir, given.checkpoint, console=console)
    console.print(f"final test {result}; everything is in {workdir}/", soft_wrap=True)


def main() -> int:
    """Reads the command line, runs the program, returns its exit status: see `command_line.run`."""
    own = cli.Own(ClassifierConfig, make, "RUN/classifier")
    return cli.run(program, __doc__, define, own=own)
