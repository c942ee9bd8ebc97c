"""Draw a figure of noise schedules, weightings, samplers at work or trained runs as a PNG file.

python -m vdm.plots schedules --out=schedules.png --gamma_min=-13.3 --gamma_max=5

schedules: α, σ² and log-SNR by time, and the density of noise levels, for fixed schedules, EDM and flow matching.
weightings: w(λ) of every weighting, and the distribution of the ELBOs that the monotone ones average.
trajectories: a density with two modes turned into noise and back, by DDPM and by DDIM.
codec: the bits on a coder's stack while images are coded, from the first latent up and from the last down.

Figures of trained runs, given by --runs=RUN,RUN:

holes: aggregate posterior against prior, reconstructions and samples, for models of points with two latents.
traversals: images along single latents of a VAE and, with a diffusion model's run, between its images by DDIM.
"""

from collections.abc import Sequence
from pathlib import Path

from vdm.errors import InputError, os_error
from vdm.plots import codec, samplers, theory
from vdm.programs.arguments import Parser

FIGURES = ("schedules", "weightings", "trajectories", "codec")
OF_RUNS = ("holes", "traversals")

# The weightings are accurate in float32 up to here, far beyond what images need.
LIMIT = 20.0


def main(argv: Sequence[str] | None = None) -> None:
    """Write the figure; bad input is one line on stderr and exit status 2."""
    parser = Parser("python -m vdm.plots", __doc__)
    parser.add_argument("figure", choices=FIGURES + OF_RUNS)
    parser.add_argument("--out", type=Path, help="PNG file to write (default: FIGURE.png)")
    parser.add_argument("--gamma_min", type=float, default=-13.3, help="γ(0), the end near the data (default: -13.3)")
    parser.add_argument("--gamma_max", type=float, default=5.0, help="γ(1), the noisy end (default: 5)")
    parser.add_argument("--runs", help="folders of runs, RUN or RUN:CHECKPOINT, separated by commas")
    given = parser.parse_args(argv)
    low, high = given.gamma_min, given.gamma_max
    out = given.out or Path(f"{given.figure}.png")
    if not (low >= -LIMIT and low + 1 <= high <= LIMIT):
        allowed = f"--gamma_max must be 1 or more above --gamma_min, both from {-LIMIT:g} to {LIMIT:g}"
        parser.error(f"--gamma_min={low:g} --gamma_max={high:g}: {allowed}")
    if out.suffix != ".png":
        parser.error(f"--out={out}: must end in .png")
    if (given.figure in OF_RUNS) != bool(given.runs):
        parser.error(f"--runs={given.runs or ''}: goes with {' and '.join(OF_RUNS)}, which need it")
    try:
        match given.figure:
            case "schedules":
                theory.schedules(out, low, high)
            case "weightings":
                theory.weightings(out, -high, -low)
            case "codec":
                codec.codec(out, low, high)
            case "trajectories":
                samplers.trajectories(out, low, high)
            case _:
                of_runs(given.figure, out, given.runs.split(","))
    except OSError as error:
        parser.error(f"--out={out}: {os_error(error)}")
    except InputError as error:
        parser.error(str(error))
    print(out)


def of_runs(figure: str, out: Path, runs: Sequence[str]) -> None:
    """Draw a figure of trained runs."""
    from vdm.programs import latent_figures

    draw = latent_figures.draw_holes if figure == "holes" else latent_figures.draw_traversals
    draw(out, latent_figures.opened(runs))
