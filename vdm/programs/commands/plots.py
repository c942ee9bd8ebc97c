"""Draws what objectives are made of, and samplers at work, between the end points of γ = −log SNR, as a PNG file.

python -m vdm.plots schedules --out=schedules.png --gamma_min=-13.3 --gamma_max=5

schedules: α, σ² and log-SNR by time, and the density of noise levels, of fixed schedules, EDM and flow matching.
weightings: w(λ) of every weighting, and the distribution of the ELBOs that the monotone ones average.
trajectories: a density of two modes turned to noise and back, by DDPM and by DDIM.
"""

from collections.abc import Sequence
from pathlib import Path

from vdm.errors import os_error
from vdm.plots import samplers, theory
from vdm.programs.command_line import Parser

FIGURES = ("schedules", "weightings", "trajectories")

# Where the weightings are accurate in float32, and far beyond what images need.
LIMIT = 20.0


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the figure; bad input is one line on stderr and exit status 2."""
    parser = Parser("python -m vdm.plots", __doc__)
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--out", type=Path, help="PNG file to write (default: FIGURE.png)")
    parser.add_argument("--gamma_min", type=float, default=-13.3, help="γ(0), nearest to the data (default: -13.3)")
    parser.add_argument("--gamma_max", type=float, default=5.0, help="γ(1), nearest to noise (default: 5)")
    given = parser.parse_args(argv)
    low, high = given.gamma_min, given.gamma_max
    out = given.out or Path(f"{given.figure}.png")
    if not (low >= -LIMIT and low + 1 <= high <= LIMIT):
        allowed = f"--gamma_max must be 1 or more above --gamma_min, both from {-LIMIT:g} to {LIMIT:g}"
        parser.error(f"--gamma_min={low:g} --gamma_max={high:g}: {allowed}")
    if out.suffix != ".png":
        parser.error(f"--out={out}: must end in .png")
    try:
        match given.figure:
            case "schedules":
                theory.schedules(out, low, high)
            case "weightings":
                theory.weightings(out, -high, -low)
            case _:
                samplers.trajectories(out, low, high)
    except OSError as error:
        parser.error(f"--out={out}: {os_error(error)}")
    print(out)
