"""Train a variational diffusion model, evaluate it and draw samples from it.

    python train.py --config=configs/digits.py --config.training.steps=1000 --workdir=runs/mine

The same command goes on where a run in that folder was stopped or killed, to the bit.
"""

from pathlib import Path

from vdm import cli

cli.define_processes()


def main() -> None:
    config, workdir = cli.config(), cli.workdir()
    console = cli.start()
    from vdm.training.loop import train

    result = train(config, workdir, console)
    console.print(f"test {result}; everything is in {workdir}/")


if __name__ == "__main__":
    cli.run(main, __doc__, Path(__file__).parent / "configs" / "digits.py")
