"""Train discrete- and continuous-time models alike, and compare their bounds at every number of time steps T.

    python compare.py --config=configs/compare_digits.py --config.comparison.trained='(10,100)'

Writes comparison.json, a Markdown table laid out as Table 2 of the VDM paper, and a figure into the workdir. The same
command goes on where it was stopped or killed; finished parts are not redone.
"""

from pathlib import Path

from vdm import cli, parallel


def main() -> None:
    config, workdir = cli.config(), cli.workdir()
    parallel.setup()
    from rich.console import Console

    from vdm.programs.compare import compare

    print(compare(config, workdir, Console(highlight=False)))


if __name__ == "__main__":
    cli.run(main, __doc__, Path(__file__).parent / "configs" / "compare_digits.py")
