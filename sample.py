"""Draw images from a trained model by ancestral sampling: a PNG grid and an npz file in WORKDIR/samples.

python sample.py --workdir=runs/digits --num=64 --steps=250 --seed=1 --trajectory=10
"""

from absl import flags

from vdm import cli, parallel

flags.DEFINE_string(
    "checkpoint", "latest", "latest, best (by test bits/dim while training) or a step (default: latest)."
)
flags.DEFINE_integer("num", None, "Number of images (default: config.sampling.num).")
flags.DEFINE_integer("steps", None, "Steps T of the sampler (default: config.sampling.steps).")
flags.DEFINE_integer("seed", 0, "Seed; image k of a seed is always the same (default: 0).")
flags.DEFINE_integer("trajectory", 0, "Frames of the guess at x to keep, as a strip and an animation (default: 0).")


def main() -> None:
    config, workdir, values = cli.config(), cli.workdir(), flags.FLAGS
    config.sampling.num = config.sampling.num if values.num is None else values.num
    config.sampling.steps = config.sampling.steps if values.steps is None else values.steps
    parallel.setup()
    from rich.console import Console

    from vdm.programs.sample import sample

    sample(config, workdir, values.checkpoint, values.seed, values.trajectory, Console(highlight=False))


if __name__ == "__main__":
    cli.run(main, __doc__)
