"""Train a variational diffusion model, or a model before diffusion, evaluate it and draw samples from it.

    vdm train --config=digits --config.training.steps=1000 --workdir=runs/mine
    vdm train --config=vae_digits

If the folder holds a run that was stopped or killed, the same command resumes it, bit for bit. With more steps, a run
with a constant learning rate continues past its end. With cosine decay, start a new run from its weights:

    vdm train --config=digits --init_from=runs/mine --workdir=runs/longer
"""

from absl import flags

from vdm.programs import command_line as cli
from vdm.runs.records import RUNS


def define() -> None:
    """Define the flags."""
    cli.define_processes()
    flags.DEFINE_string(
        "profile_steps",
        None,
        "Trace the steps FIRST:LAST, e.g. 10:20, into WORKDIR/profile, and print how to open the trace.",
    )
    flags.DEFINE_string(
        "init_from",
        None,
        "RUN, RUN:CHECKPOINT (latest, best or a step) or vdm:NAME: start from the averaged weights of another run.",
    )


def program() -> None:
    """Run the command, once its flags are parsed."""
    config, workdir = cli.config(), cli.workdir()
    console = cli.start()
    from vdm.programs.profile import parse_traced_steps
    from vdm.programs.train import train

    text = flags.FLAGS.profile_steps
    profile = None if text is None else parse_traced_steps(text)
    result = train(config, workdir, console=console, profile=profile, init_from=flags.FLAGS.init_from)
    console.print(f"final test {result}; everything is in {workdir}/", soft_wrap=True)


def main() -> int:
    """Parse the command line, run the command and return its exit status: see `command_line.run`."""
    return cli.run(program, __doc__, define, "digits", kinds=RUNS)
