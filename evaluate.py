"""Measure bits/dim of the test images: each exactly once, several noise draws each, with a standard error.

python evaluate.py --workdir=runs/digits --config.evaluation.draws=20
"""

from absl import flags

from vdm import cli, parallel

flags.DEFINE_string(
    "checkpoint", "latest", "latest, best (by test bits/dim while training) or a step (default: latest)."
)


def main() -> None:
    config, workdir = cli.config(), cli.workdir()
    parallel.setup()
    from rich.console import Console

    from vdm.programs.evaluate import evaluate

    evaluate(config, workdir, flags.FLAGS.checkpoint, Console(highlight=False))


if __name__ == "__main__":
    cli.run(main, __doc__)
