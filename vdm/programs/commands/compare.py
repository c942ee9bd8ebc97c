"""Compare models trained alike, by number of time steps, objective or family, or the uses of one trained model.

    vdm compare --config=compare_digits --comparison.trained='(10,100)'
    vdm compare --by=objective --config=objectives_digits --comparison.predictions="('eps','v')"
    vdm compare --by=sampler --run=runs/digits --comparison.samplers="('ancestral','heun@karras')"
    vdm compare --by=guidance --run=runs/digits_conditional --comparison.metrics="('fd_classifier','class_accuracy')"
    vdm compare --by=codec --run=runs/digits --comparison.steps='(10,100)' --comparison.max_images=300
    vdm compare --by=family --config=families_digits --comparison.depths='(2,4,8)'
    vdm compare --by=text --run=runs/digits_captions --comparison.guidances="('classifier_free(2)','clip(3)')"

By steps: discrete- and continuous-time models of several seeds, and their bounds at every number of time steps T.
Writes comparison.json, a Markdown table laid out as Table 2 of the VDM paper, and a figure into the workdir. By
objective: every prediction with every weighting and proposal, and the bound, sample quality and gradient noise of
each over seeds: objectives.json and objectives.md. By sampler: the quality of images of the run in --run for every
sampler and number of network calls: samplers.json, samplers.md and a figure. By guidance: the same for guidances
of a model with labels. --comparison.metrics chooses the metrics of sample quality; those that need a classifier use
one trained on the data, or the one in --comparison.classifier=FOLDER. By codec: the model as a lossless coder of test
images at every T, its rate beside its bound, and classical coders (`pip install 'vdm[codecs]'` adds more): codecs.json,
codecs.md and a figure. By family: a VAE, hierarchical VAEs by depth and inference, and diffusion models of T steps
and in continuous time, with the same data and budget: bounds by layer, samples, and the hole between aggregate
posterior and prior: families.json, families.md and a figure; --config is that of the diffusion models. By text:
whether samples match their captions, attribute by attribute, by guidance: text.json, text.md and a figure. If the
command was stopped or killed, run it again: it resumes and repeats no finished part.
"""

from pathlib import Path

from absl import flags

from vdm import parallel
from vdm.comparisons import modes
from vdm.errors import InputError
from vdm.programs import command_line as cli
from vdm.programs import compilation, streams
from vdm.runs.places import home

NAMES = tuple(modes.MODES)


def define() -> None:
    """Define the flags."""
    flags.DEFINE_enum("by", NAMES[0], NAMES, f"What differs (default: {NAMES[0]}).")
    flags.DEFINE_string(
        "run",
        None,
        "With --by=sampler, guidance, codec or text: the trained run, or vdm:NAME; --workdir is then RUN/samplers, ….",
    )
    flags.DEFINE_string("checkpoint", "latest", "With --run: latest, best or a step of it (default: latest).")


def settings_of(given: dict[str, str]) -> type:
    """Return the settings class of the mode that --by names; an unknown name is refused later."""
    by = given.get("by", NAMES[0])
    return modes.load(by if by in NAMES else NAMES[0]).settings


def program() -> None:
    """Run the command, once its flags are parsed."""
    config, settings, given = cli.config(), cli.comparison(), flags.FLAGS
    mode = modes.load(given.by)
    if (mode.of_a_run is None) != (given.run is None):
        of_a_run = " or ".join(f"--by={name}" for name in NAMES if modes.load(name).of_a_run)
        if given.run is None:
            raise InputError(f"--by={given.by}: needs --run, the folder of a trained run")
        raise InputError(f"--by={given.by}: --run, the folder of a trained run, goes with {of_a_run} only")
    parallel.setup()
    compilation.keep()
    from vdm.programs.compare import compare

    console = streams.make_console()
    if mode.of_a_run is None:
        print(compare(mode, config, settings, cli.workdir(), console))
    else:
        run = Path(given.run)
        workdir = Path(given.workdir or home(run) / mode.of_a_run)
        print(compare(mode, config, settings, workdir, console, run, given.checkpoint))


def main() -> int:
    """Parse the command line, run the command and return its exit status: see `command_line.run`."""
    return cli.run(program, __doc__, define, "compare_digits", settings_of)
