"""Train several models alike and compare them: by their number of time steps, or by their objective.

    python compare.py --config=configs/compare_digits.py --config.comparison.trained='(10,100)'
    python compare.py --by=objective --config=configs/objectives_digits.py --config.comparison.predictions="('eps','v')"

By steps: discrete- and continuous-time models, and their bounds at every number of time steps T. Writes
comparison.json, a Markdown table laid out as Table 2 of the VDM paper, and a figure into the workdir. By objective:
every prediction with every weighting and proposal, and the bound, sample quality and gradient noise of each over seeds:
objectives.json and objectives.md. The same command goes on where it was stopped or killed, and redoes no finished part.
"""

from pathlib import Path

from absl import flags

from vdm import cli, parallel

flags.DEFINE_enum("by", "steps", ["steps", "objective"], "What the models differ in: steps or objective.")


def main() -> None:
    config, workdir = cli.config(), cli.workdir()
    parallel.setup()
    from rich.console import Console

    from vdm.programs.compare import compare
    from vdm.programs.compare_objectives import compare_objectives

    program = compare if flags.FLAGS.by == "steps" else compare_objectives
    print(program(config, workdir, Console(highlight=False)))


if __name__ == "__main__":
    cli.run(main, __doc__, Path(__file__).parent / "configs" / "compare_digits.py")
