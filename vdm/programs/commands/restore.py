"""Restore images from a blurred, small, gray, noisy or partly missing version of them, with a trained model.

vdm restore --run=runs/photos32 --operator='blur(2)' --noise=0.05 --num=8
vdm restore --run=runs/photos32 --operator='downsample(4)' --method='proximal(0.2)' --draws=16 --steps=100
vdm restore --run=runs/smooth --operator=gray --method='mmps(5)'
vdm restore --run=runs/photos32 --operator='missing(0.9)' --method='repaint(10)' --image=a.png --image=b.png
vdm restore --run=runs/photos32 --operator='downsample(4)' --noise=0.01 --measured=small.png

The measurement of an image x, with values in [-1, 1], is y = A x + noise, where A is the operator. The command measures
images itself, and restores them from y alone. They are test images of the run's data, or those of --image: pictures,
folders of pictures, or npz files. They must have the shape and the levels of the model's images, and values are taken
as they are: 0 to 16 for a model with 17 levels. With --resize, pictures with values from 0 to 255 are resized to the
model's size, made gray or RGB, and quantized to the model's levels. Images in npz files are never resized.

--measured gives y itself, for images that are degraded already: pictures, folders or npz files of the shape that the
operator makes, with the levels of the model; --resize makes pictures fit that shape. --noise then says how noisy they
are. The true images are not known, so only the distance of draws from the measurements is reported.

Draws follow p(x|y) as closely as the method allows. The command writes the draws and measurements (npz); PSNR with
standard errors over images, the distance of draws from the measurements, and the cost (JSON); and a picture. A mean of
draws has a higher PSNR than a single draw, but less detail. dps, pigdm and mmps differentiate the network, which takes
more memory and time. They need a network with smooth derivatives, trained with --config.network.fourier='()': the fine
Fourier features that a network has by default spoil them. proximal and repaint need no gradients.
"""

import argparse
from collections.abc import Sequence

from vdm import parts
from vdm.programs import streams
from vdm.programs.arguments import Parser
from vdm.programs.editing import Editing, add_flags
from vdm.programs.restore import Problem, restore, restore_measured

METHODS = ", ".join(parts.names("restoration"))


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files; bad input is one line on stderr and exit status 2."""
    parser = Parser("vdm restore", f"{__doc__}\n\n{_listed('operator')}\n\n{_listed('restoration', 'methods')}")
    parser.add_argument("--operator", required=True, help=f"A, e.g. blur(2): {', '.join(parts.names('operator'))}")
    parser.add_argument(
        "--noise", type=float, default=0.05, help="standard deviation of the noise, for x in [-1, 1] (default: 0.05)"
    )
    parser.add_argument("--method", default="proximal", help=f"{METHODS} (default: proximal)")
    parser.add_argument("--image", action="append", help="a picture, folder or npz file; may be repeated")
    parser.add_argument("--measured", action="append", help="the same, of measurements y instead of images x")
    parser.add_argument("--num", type=int, help="number of test images, without --image (default: 8)")
    add_flags(parser)
    given = parser.parse_args(argv)
    with parser.one_line():
        _restore(parser, given)


def _restore(parser: Parser, given: argparse.Namespace) -> None:
    sources = {"--image": given.image, "--measured": given.measured, f"--num={given.num}": given.num}
    named = [flag for flag, value in sources.items() if value is not None]
    if len(named) > 1:
        parser.error(f"{named[1]}: cannot be combined with {named[0]}")
    editing = Editing.of(given, "restorations", streams.make_console())
    problem = Problem.of(editing.run, given.operator, given.noise, given.method)
    if given.measured:
        like = problem.like_measured(editing.run)
        restore_measured(editing, problem, editing.given(given.measured, given.resize, like, "measured"))
    elif given.image:
        restore(editing, problem, editing.given(given.image, given.resize))
    else:
        restore(editing, problem, editing.of_test(given.num))


def _listed(kind: str, called: str = "") -> str:
    described = parts.describe(kind)
    width = max(map(len, described))
    lines = [f"  {name:<{width}}  {line}" for name, line in described.items()]
    return "\n".join([f"The {called or kind + 's'}:", *lines])
