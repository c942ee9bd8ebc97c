"""Measure bits/dim of the test images: each exactly once, several noise draws each, with a standard error.

vdm evaluate --workdir=runs/digits --config.evaluation.draws=20
vdm evaluate --workdir=runs/digits --T=10,100,inf
vdm evaluate --workdir=runs/digits --stderr=0.005
vdm evaluate --workdir=runs/digits --config.evaluation.precision=bfloat16
vdm evaluate --workdir=runs/digits --variance=100
vdm evaluate --workdir=runs/digits --ode=2 --images=100
vdm evaluate --workdir=runs/digits_conditional --classify=64 --drop_error=0.01
vdm evaluate --workdir=runs/digits --metrics=mmd --num=1000
vdm evaluate --workdir=runs/cifar10 --metrics=fid,kid,recall --num=50000 --weights=weights/
"""

from pathlib import Path

from absl import flags
from rich.console import Console

from vdm import parts
from vdm.config import Config
from vdm.errors import InputError
from vdm.programs import command_line as cli


def define() -> None:
    """The flags."""
    cli.define_processes()
    flags.DEFINE_string(
        "checkpoint", "latest", "latest, best (by test bits/dim while training) or a step (default: latest)."
    )
    flags.DEFINE_string(
        "T",
        None,
        "Numbers of time steps, as 10,100,inf (default: config.objective.num_steps).",
    )
    flags.DEFINE_float(
        "stderr",
        None,
        "Choose the draws for about ± this many bits/dim, with the fewest network calls.",
    )
    flags.DEFINE_integer(
        "variance",
        None,
        "Instead, the variance of the one-draw estimate by schedule, from so many draws.",
    )
    flags.DEFINE_integer(
        "ode",
        None,
        "Instead, the bound by the probability-flow ODE, from so many draws an image.",
    )
    flags.DEFINE_integer(
        "probes",
        None,
        "With --ode: probes of the divergence, 0 for exact (default: exact up to 16 dimensions, else 8).",
    )
    flags.DEFINE_float("tolerance", None, "With --ode: error of a solver's step, for each dimension (default: 1e-4).")
    flags.DEFINE_integer("images", None, "With --ode and --classify: so many test images (default: all).")
    flags.DEFINE_integer(
        "classify",
        None,
        "Instead, the test images' classes by their bounds, from so many draws of each.",
    )
    flags.DEFINE_float(
        "drop_error",
        None,
        "With --classify: drop classes early, where all draws would give an image another class with at most this "
        "probability (default: all draws for all classes).",
    )
    flags.DEFINE_enum("prior", None, ["uniform", "train"], "With --classify: p(c) (default: uniform).")
    listed = "".join(f"\n{name}: {line}" for name, line in parts.describe("metric").items())
    flags.DEFINE_string(
        "metrics",
        None,
        f"Instead, how good samples are, as fid,kid,recall; those missing are drawn first.{listed}",
    )
    flags.DEFINE_string(
        "samples", None, "With --metrics: the samples of this name in the run (default: by the settings)."
    )
    flags.DEFINE_integer("num", None, "With --metrics: so many samples (default: config.sampling.num).")
    flags.DEFINE_string(
        "real",
        None,
        "With --metrics: real images: DATA@SPLIT, a folder, an npz file (default: the run's).",
    )
    flags.DEFINE_string(
        "weights", None, "With --metrics: file or folder of extractors' weights (default: VDM_WEIGHTS)."
    )
    flags.DEFINE_string("classifier", None, "With --metrics: folder of a classifier (default: one of the data's own).")
    cli.define_out("evaluations/ (samples/ with --metrics)")


def program() -> None:
    """What the command does."""
    config, workdir = cli.config(), cli.workdir()
    console = cli.start()
    from vdm.programs.evaluate import Evaluate, parse_steps

    given = flags.FLAGS
    if given.variance is not None and (given.T is not None or given.stderr is not None):
        raise InputError("--variance: goes without --T and --stderr; it is of continuous time")
    modes = {
        "ode": ("it is of continuous time, with --ode=DRAWS draws", ("probes", "tolerance", "images")),
        "classify": ("its bounds are the model's own, with --classify=DRAWS draws", ("drop_error", "prior", "images")),
        "metrics": ("it is of samples, not of bounds", ("samples", "num", "real", "weights", "classifier")),
    }
    mode = next((name for name in modes if given[name].value is not None), None)
    if mode is not None:
        rivals = [
            name for name in ("T", "stderr", "variance", *modes) if name != mode and given[name].value is not None
        ]
        if rivals:
            raise InputError(f"--{mode}: goes without --{rivals[0]}; {modes[mode][0]}")
    for name in dict.fromkeys(option for _, options in modes.values() for option in options):
        of = [
            f"--{each}={'NAMES' if each == 'metrics' else 'DRAWS'}"
            for each, (_, options) in modes.items()
            if name in options
        ]
        if given[name].value is not None and (mode is None or name not in modes[mode][1]):
            raise InputError(f"--{name}: goes with {' or '.join(of)} only")
    if given.metrics is not None:
        _score(config, workdir, console)
        return
    steps = None if given.T is None else parse_steps(given.T)
    evaluate = Evaluate(config, workdir, given.checkpoint, console, cli.out())
    if given.ode is not None:
        evaluate.ode(given.ode, given.probes, given.tolerance, given.images)
    elif given.classify is not None:
        evaluate.classify(given.classify, given.drop_error, given.prior or "uniform", given.images)
    elif given.variance is not None:
        evaluate.variance(given.variance)
    else:
        evaluate.bound(steps, given.stderr)


def _score(config: Config, workdir: Path, console: Console) -> None:
    from vdm.evaluation.images import with_steps_of
    from vdm.programs.asked import Asked, names_of
    from vdm.programs.sample import Sample
    from vdm.programs.score_samples import score_samples

    given = flags.FLAGS
    if given.samples is not None and given.num is not None:
        raise InputError("--samples: goes without --num; all images of the folder are measured")
    if given.num is not None:
        config.sampling.num = given.num
    config.sampling = with_steps_of(config.sampling, config.objective.num_steps)
    asked = Asked(
        names_of(given.metrics),
        None if given.weights is None else Path(given.weights),
        None if given.classifier is None else Path(given.classifier),
        config.evaluation.batch_size,
    )
    sample = Sample(config, workdir, given.checkpoint, 0, console, cli.out())
    score_samples(sample, asked, given.samples, given.real)


def main() -> int:
    """Reads the command line, runs the program, returns its exit status: see `command_line.run`."""
    return cli.run(program, __doc__, define)
