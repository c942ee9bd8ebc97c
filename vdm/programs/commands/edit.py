"""Fills in or changes given images with a trained model; no training.

vdm edit --run=runs/photos32 --image=house.png --mask=hole.png
vdm edit --run=runs/photos32 --image=house.png --mask=hole.png --method=proximal --draws=8
vdm edit --run=runs/photos32 --image=sketch.jpg --resize --strength=0.6
vdm edit --run=runs/digits_conditional --image=sevens.npz --strength=0.7 --labels=1
vdm edit --run=runs/digits_conditional --image=sevens.npz --invert --labels=1 --guidance='classifier_free(1)'

With --mask, what is white in the mask is filled in, and the rest stays to the bit: by RePaint, or by another method of
vdm restore. Without, an image is noised at time t = --strength and drawn anew from there (SDEdit): little changes at
0.2, nothing of it is left at 1, and 0 returns it. With --invert, an image goes up to t = --strength (default: 1) by
DDIM, without noise and with its own label, and down with that of --labels.

The images are pictures, folders of them, or npz files, of the shape and the levels of the model's; values are taken as
they are: 0 to 16 for a model of 17 levels. With --resize, pictures of 0 to 255 are resized to the model's size, made
grey or RGB, and their values cut into the model's levels, and a mask is resized by nearest pixels; npz files never are.

Own labels of images come from an npz file (`label`), or from the names of the pictures' folders. Written are the draws
(npz), the settings (JSON), and a picture.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vdm import parts
from vdm.errors import InputError
from vdm.programs import edit, streams
from vdm.programs.command_line import Parser
from vdm.programs.editing import Editing, add_flags

METHOD, STRENGTH = "repaint(10)", 0.5


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the files; bad input is one line on stderr and exit status 2."""
    parser = Parser("vdm edit", __doc__)
    parser.add_argument(
        "--image", action="append", required=True, help="a picture, folder or npz file; may be repeated"
    )
    parser.add_argument("--mask", type=Path, help="a picture that is white where the image is to be filled in")
    methods = ", ".join(parts.names("restoration"))
    parser.add_argument("--method", help=f"how, with --mask: {methods} (default: {METHOD})")
    parser.add_argument("--strength", type=float, help=f"time t from which it is drawn anew (default: {STRENGTH})")
    parser.add_argument("--invert", action="store_true", help="go there by DDIM, without noise (--strength: 1)")
    add_flags(parser)
    given = parser.parse_args(argv)
    with parser.one_line():
        _edit(given)


def _edit(given: argparse.Namespace) -> None:
    if given.mask is not None and (given.invert or given.strength is not None):
        raise InputError("--mask: goes without --strength and --invert")
    if given.mask is None and given.method is not None:
        raise InputError(f"--method={given.method}: fills in what a mask says; must go with --mask")
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
