"""Write one HTML page about a run, or about several side by side.

    vdm report runs/digits
    vdm report runs/digits runs/longer --out=both.html
    vdm report vdm:digits

The page is a single file that needs no server and no network. It shows the result with its standard error, samples
during training beside the data, curves, the noise schedule, evaluations, metrics, the config and how it differs from
the defaults, and the commands that reproduce the run. For several runs it overlays the curves and shows where their
configs differ. Whatever is missing or damaged in a folder is listed. For a released model it shows the model card, and
is written to runs/vdm_NAME/report.html.

`vdm train` writes the page of its run when training ends.
"""

from collections.abc import Sequence
from pathlib import Path

from vdm.programs.arguments import Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page; a folder that is not a run's is one line on stderr and exit status 2."""
    parser = Parser("vdm report", __doc__)
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN", help="folder of a run, or vdm:NAME")
    parser.add_argument("--out", type=Path, help="file to write (default: report.html in the first RUN)")
    given = parser.parse_args(argv)
    from vdm.programs.report import write_report

    with parser.one_line():
        print(write_report(given.run, given.out))
