"""Measure bits/dim of the test images, each once with several noise draws, and the standard error.

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
    """Define the flags."""
    cli.define_processes()
    flags.DEFINE_string(
        "checkpoint", "latest", "latest, best (by test bits/dim while training) or a step (default: latest)."
    )
    flags.DEFINE_string(
        "T",
        None,
        "Numbers of time steps, e.g. 10,100,inf (default: config.objective.num_steps).",
    )
    flags.DEFINE_float(
        "stderr",
        None,
        "Standard error in bits/dim to reach, with the fewest network calls.",
    )
    flags.DEFINE_integer(
        "variance",
        None,
        "Measure the variance of one-draw estimates by schedule instead, with N draws.",
    )
    flags.DEFINE_integer(
        "ode",
        None,
        "Measure the bound by the probability-flow ODE instead, with N draws per image.",
    )
    flags.DEFINE_integer(
        "probes",
        None,
        "With --ode: probes of the divergence, 0 for the exact one (default: 0 up to 16 dimensions, else 8).",
    )
    flags.DEFINE_float(
        "tolerance", None, "With --ode: error tolerance of a solver step in each dimension (default: 1e-4)."
    )
    flags.DEFINE_integer(
        "importance",
        None,
        "Measure the importance-weighted bound of N draws instead; a VDM needs --T too.",
    )
    flags.DEFINE_integer("images", None, "With --ode, --classify, --importance: number of test images (default: all).")
    flags.DEFINE_integer(
        "classify",
        None,
        "Classify the test images by their bounds instead, with N draws for each class.",
    )
    flags.DEFINE_float(
        "drop_error",
        None,
        "With --classify: drop classes early, at most this likely to change a result.",
    )
    flags.DEFINE_enum("prior", None, ["uniform", "train"], "With --classify: prior p(c) (default: uniform).")
    listed = "".join(f"\n{name}: {line}" for name, line in parts.describe("metric").items())
    flags.DEFINE_string(
        "metrics",
        None,
        f"Score samples instead, e.g. by fid,kid,recall; missing samples are drawn first.{listed}",
    )
    flags.DEFINE_string(
        "samples", None, "With --metrics: folder of samples in the run (default: that of the settings)."
    )
    flags.DEFINE_integer("num", None, "With --metrics: number of samples (default: config.sampling.num).")
    flags.DEFINE_string(
        "real",
        None,
        "With --metrics: real images, DATA@SPLIT or a folder (default: the run's).",
    )
    flags.DEFINE_string(
        "weights", None, "With --metrics: file or folder of extractors' weights (default: VDM_WEIGHTS)."
    )
    flags.DEFINE_string("classifier", None, "With --metrics: a classifier's folder (default: one trained on the data).")
    cli.define_out("evaluations/ (samples/ with --metrics)")


def program() -> None:
    """Run the command, once its flags are parsed."""
    config, workdir = cli.config(), cli.workdir()
    console = cli.start()
    from vdm.programs import kinds

    kind = kinds.of(config)
    kind.evaluate(config, workdir, console, cli.given(define, kind.evaluates_by), cli.out())


def main() -> int:
    """Parse the command line, run the command and return its exit status: see `command_line.run`."""
    return cli.run(program, __doc__, define, kinds=RUNS)
