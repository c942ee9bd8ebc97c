"""Train a variational diffusion model, evaluate it and draw samples from it.

    python train.py --config=configs/digits.py --config.training.steps=1000 --workdir=runs/mine

The same command goes on where a run in that folder was stopped or killed, to the bit.
"""

import sys
from pathlib import Path

from vdm import cli, parallel


def main() -> None:
    config, workdir = cli.config(), cli.workdir()
    parallel.setup()
    from rich.console import Console

    from vdm.training.loop import Stopped, train

    console = Console(highlight=False)
    try:
        result = train(config, workdir, console)
    except Stopped as stopped:
        console.print(f"{stopped}; run the same command to go on")
        sys.exit(128 + stopped.signal_number)
    console.print(f"test {result}; everything is in {workdir}/")


if __name__ == "__main__":
    cli.run(main, __doc__, Path(__file__).parent / "configs" / "digits.py")
