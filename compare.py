"""Compare models trained alike, by their number of time steps or their objective; or samplers on one trained model.

    python compare.py --config=configs/compare_digits.py --comparison.trained='(10,100)'
    python compare.py --by=objective --config=configs/objectives_digits.py --comparison.predictions="('eps','v')"
    python compare.py --by=sampler --run=runs/digits --comparison.samplers="('ancestral','heun@karras')"

By steps: discrete- and continuous-time models, and their bounds at every number of time steps T. Writes
comparison.json, a Markdown table laid out as Table 2 of the VDM paper, and a figure into the workdir. By objective:
every prediction with every weighting and proposal, and the bound, sample quality and gradient noise of each over seeds:
objectives.json and objectives.md. By sampler: images from the run in --run (whose config it takes) by every sampler at
every number of network calls, and how far they are from training images: samplers.json, samplers.md and a figure. The
same command goes on where it was stopped or killed, and redoes no finished part.
"""

from pathlib import Path

from absl import flags

from vdm import parallel
from vdm.errors import InputError
from vdm.programs import command_line as cli

flags.DEFINE_enum("by", "steps", ["steps", "objective", "sampler"], "What differs: steps, objective or sampler.")
flags.DEFINE_string("run", None, "--by=sampler: folder of the trained run; --workdir is then RUN/samplers by default.")
flags.DEFINE_string("checkpoint", "latest", "--by=sampler: latest, best or a step of that run (default: latest).")


def comparison(given: dict[str, str]) -> type:
    """The settings of the mode that --by names."""
    from vdm.comparisons.objectives import ObjectivesSettings
    from vdm.comparisons.samplers import SamplersSettings
    from vdm.comparisons.steps import StepsSettings

    return {"objective": ObjectivesSettings, "sampler": SamplersSettings}.get(given.get("by", ""), StepsSettings)


def main() -> None:
    config, given = cli.config(), flags.FLAGS
    if (given.by == "sampler") != (given.run is not None):
        raise InputError(f"--by={given.by}: --run, the folder of a trained run, goes with --by=sampler and no other")
    parallel.setup()
    from rich.console import Console

    from vdm.comparisons.objectives import compare_objectives
    from vdm.comparisons.samplers import compare_samplers
    from vdm.comparisons.steps import compare_steps

    settings = cli.comparison()
    console = Console(highlight=False)
    if given.by == "sampler":
        workdir = Path(given.workdir or Path(given.run) / "samplers")
        print(compare_samplers(config, settings, Path(given.run), workdir, given.checkpoint, console))
    else:
        print((compare_steps if given.by == "steps" else compare_objectives)(config, settings, cli.workdir(), console))


if __name__ == "__main__":
    cli.run(main, __doc__, "compare_digits", comparison)
