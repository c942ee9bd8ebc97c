"""Measure bits/dim of the test images: each exactly once, several noise draws each, with a standard error.

vdm evaluate --workdir=runs/digits --config.evaluation.draws=20
vdm evaluate --workdir=runs/digits --T=10,100,inf
vdm evaluate --workdir=runs/digits --stderr=0.005
vdm evaluate --workdir=runs/digits --config.evaluation.precision=bfloat16
vdm evaluate --workdir=runs/digits --variance=100
vdm evaluate --workdir=runs/digits --ode=2 --images=100
"""

from absl import flags

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
        "Numbers of time steps, as 10,100,inf: the bound at each (default: that of config.objective.num_steps).",
    )
    flags.DEFINE_float(
        "stderr",
        None,
        "Choose the draws so that their noise is about ± this many bits/dim, with the fewest network calls.",
    )
    flags.DEFINE_integer(
        "variance",
        None,
        "Instead, report the variance of the one-draw estimate by schedule, from so many draws an image.",
    )
    flags.DEFINE_integer(
        "ode",
        None,
        "Instead, the bound by the probability-flow ODE and the variational one, from so many draws an image.",
    )
    flags.DEFINE_integer(
        "probes",
        None,
        "With --ode: probes of the divergence, 0 for exact (default: exact up to 16 dimensions, else 8).",
    )
    flags.DEFINE_float("tolerance", None, "With --ode: error of a solver's step, for each dimension (default: 1e-4).")
    flags.DEFINE_integer("images", None, "With --ode: so many test images from all over the split (default: all).")
    cli.define_out("evaluations")


def program() -> None:
    """What the command does."""
    config, workdir = cli.config(), cli.workdir()
    console = cli.start()
    from vdm.errors import InputError
    from vdm.programs.evaluate import Evaluate, parse_steps

    given = flags.FLAGS
    if given.variance is not None and (given.T is not None or given.stderr is not None):
        raise InputError("--variance: goes without --T and --stderr; it is of continuous time")
    others = [name for name in ("T", "stderr", "variance") if given[name].value is not None]
    of_ode = [name for name in ("probes", "tolerance", "images") if given[name].value is not None]
    if given.ode is not None and others:
        raise InputError(f"--ode: goes without --{others[0]}; it is of continuous time, with --ode=DRAWS draws")
    if given.ode is None and of_ode:
        raise InputError(f"--{of_ode[0]}: goes with --ode=DRAWS only")
    steps = None if given.T is None else parse_steps(given.T)
    evaluate = Evaluate(config, workdir, given.checkpoint, console, cli.out())
    if given.ode is not None:
        evaluate.ode(given.ode, given.probes, given.tolerance, given.images)
    elif given.variance is not None:
        evaluate.variance(given.variance)
    else:
        evaluate.bound(steps, given.stderr)


def main() -> int:
    """Reads the command line, runs the program, returns its exit status: see `command_line.run`."""
    return cli.run(program, __doc__, define)
