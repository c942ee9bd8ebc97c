"""Fill in or change given images with a trained model, without training.

vdm edit --run=runs/photos32 --image=house.png --mask=hole.png
vdm edit --run=runs/photos32 --image=house.png --mask=hole.png --method=proximal --draws=8
vdm edit --run=runs/photos32 --image=sketch.jpg --resize --strength=0.6
vdm edit --run=runs/digits_conditional --image=sevens.npz --strength=0.7 --labels=1
vdm edit --run=runs/digits_conditional --image=sevens.npz --invert --labels=1 --guidance='classifier_free(1)'

With --mask, the white part of the mask is filled in, by RePaint or another method of vdm restore; the rest stays as
it is, bit for bit. Without it, the image is noised to time t = --strength and redrawn from there (SDEdit): 0 returns
the image, 0.2 changes little, 1 leaves nothing of it. With --invert, the image is inverted by DDIM up to t =
--strength (default: 1), without noise and with its own label, and sampled from there with the label of --labels.

The images are pictures, folders of pictures, or npz files, with the shape and the levels of the model's images. Values
are taken as they are: 0 to 16 for a model with 17 levels. With --resize, pictures with values from 0 to 255 are resized
to the model's size, made gray or RGB, and quantized to the model's levels; a mask is resized by nearest neighbor.
Images in npz files are never resized.

The images' own labels come from an npz file (`label`), or from the names of the pictures' folders. The draws (npz), the
settings (JSON) and a picture are written.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vdm import parts
from vdm.errors import InputError
from vdm.programs import edit, streams
from vdm.programs.arguments import Parser
from vdm.programs.editing import Editing, add_flags

METHOD, STRENGTH = "repaint(10)", 0.5


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files; bad input is one line on stderr and exit status 2."""
    parser = Parser("vdm edit", __doc__)
    parser.add_argument(
        "--image", action="append", required=True, help="a picture, folder or npz file; may be repeated"
    )
    parser.add_argument("--mask", type=Path, help="a picture that is white where the image is to be filled in")
    methods = ", ".join(parts.names("restoration"))
    parser.add_argument("--method", help=f"method to fill in the mask: {methods} (default: {METHOD})")
    parser.add_argument("--strength", type=float, help=f"time t from which the image is redrawn (default: {STRENGTH})")
    parser.add_argument("--invert", action="store_true", help="invert the image by DDIM up to --strength (default: 1)")
    add_flags(parser)
    given = parser.parse_args(argv)
    with parser.one_line():
        _edit(given)


def _edit(given: argparse.Namespace) -> None:
    if given.mask is not None and (given.invert or given.strength is not None):
        raise InputError("--mask: cannot be combined with --strength or --invert")
    if given.mask is None and given.method is not None:
        raise InputError(f"--method={given.method}: is for filling in a mask; must go with --mask")
    if given.invert and given.draws is None:
        given.draws = 1
    defaults = {"sampler": "ddim"} if given.invert else {}
    editing = Editing.of(given, "edits", streams.make_console(), **defaults)
    images = editing.given(given.image, given.resize)
    if given.mask is not None:
        edit.inpaint(editing, images, given.mask, given.method or METHOD, given.resize)
    elif given.invert:
        edit.lead(editing, images, 1.0 if given.strength is None else given.strength)
    else:
        edit.change(editing, images, STRENGTH if given.strength is None else given.strength)
