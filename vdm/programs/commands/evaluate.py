"""Measure bits/dim of the test images: each exactly once, several noise draws each, with a standard error.

vdm evaluate --workdir=runs/digits --config.evaluation.draws=20
vdm evaluate --workdir=runs/digits --T=10,100,inf
vdm evaluate --workdir=runs/digits --stderr=0.005
vdm evaluate --workdir=runs/digits --config.evaluation.precision=bfloat16
vdm evaluate --workdir=runs/digits --variance=100
vdm evaluate --workdir=runs/digits --ode=2 --images=100
vdm evaluate --workdir=runs/digits --importance=64 --T=10
vdm evaluate --workdir=runs/digits_conditional --classify=64 --drop_error=0.01
vdm evaluate --workdir=runs/digits --metrics=mmd --num=1000
vdm evaluate --workdir=vdm:digits --T=10,100,inf
vdm evaluate --workdir=runs/cifar10 --metrics=fid,kid,recall --num=50000 --weights=weights/
vdm evaluate --workdir=runs/vae_digits --importance=64
"""

from absl import flags

from vdm import parts
from vdm.programs import command_line as cli
from vdm.runs.records import RUNS


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
    flags.DEFINE_integer(
        "importance",
        None,
        "Instead, the importance-weighted bound of so many draws; of a VDM with --T.",
    )
    flags.DEFINE_integer("images", None, "With --ode, --classify, --importance: so many test images (default: all).")
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
        "With --metrics: real images, as DATA@SPLIT or a folder (default: the run's).",
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
    from vdm.programs import kinds

    kind = kinds.of(config)
    kind.evaluate(config, workdir, console, cli.given(define, kind.evaluates_by), cli.out())


def main() -> int:
    """Reads the command line, runs the program, returns its exit status: see `command_line.run`."""
    return cli.run(program, __doc__, define, kinds=RUNS)
