"""Compress images without loss with a trained model, to about as many bits as its bound says.

vdm compress --run=runs/digits --out=digits.vdm --data=test
vdm compress --run=vdm:digits --out=digits.vdm --data=test
vdm compress --run=runs/photos32 --out=pictures.vdm --T=1000 pictures/ another.png
vdm compress --run=runs/digits_conditional --out=threes.vdm --labels=3 threes.npz

IMAGES are pictures, folders of pictures, npz files, or folders of samples. All images must have the shape and the
levels of the model's images. Pictures keep their names, and their values are taken as they are: 0 to 16 for a model
with 17 levels. If the model is conditioned on labels, these are stored with the images. They come from the data, from
the npz file (`label`), from the names of the pictures' folders, or from --labels. Samples have none.

Images are coded in chunks. To read one image, its whole chunk is decoded; damage to one chunk leaves the others intact.
Each chunk begins with a few images that are stored without the model, so small chunks cost more. More steps (--T) take
fewer bits and more time. vdm decompress needs the file, the run's config.json and its checkpoint, and nothing else.

Finished chunks are kept in FILE.partial until the file is complete. If the command is stopped or killed, run it again
to continue from there.
"""

from collections.abc import Sequence
from pathlib import Path

from vdm.codec.coding import BATCH, CHUNK
from vdm.codec.container import MOST_STEPS
from vdm.errors import InputError
from vdm.files import check_writable
from vdm.programs import coders, given_images, streams
from vdm.programs.arguments import Parser
from vdm.programs.compress import compress
from vdm.programs.named_images import SPLITS

DEFAULT_STEPS = 100
"""Default of --T for a model in continuous time."""

MOST_CHUNK = 1 << 20


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file; bad input is one line on stderr and exit status 2."""
    parser = Parser("vdm compress", __doc__)
    parser.add_argument("images", nargs="*", metavar="IMAGES", help="pictures, folders, npz files")
    parser.add_argument("--run", type=Path, required=True, help="folder of the trained run, or vdm:NAME")
    parser.add_argument("--out", type=Path, required=True, help="the new file")
    parser.add_argument("--checkpoint", default="latest", help="latest, best or a step (default: latest)")
    parser.add_argument("--data", choices=SPLITS, help="a split of the run's data, instead of IMAGES")
    parser.add_argument("--num", type=int, help="how many images of --data (default: all)")
    parser.add_argument("--labels", help="one for all images, or one for each, e.g. 3,7,cat (default: the images' own)")
    parser.add_argument("--T", type=int, help=f"steps of the model (default: its own, or {DEFAULT_STEPS})")
    parser.add_argument("--batch_size", type=int, default=BATCH, help=f"images per network call (default: {BATCH})")
    parser.add_argument("--random_access", type=int, default=CHUNK, help=f"images per chunk (default: {CHUNK})")
    given = parser.parse_args(argv)
    with parser.one_line():
        for name, most in (("T", MOST_STEPS), ("batch_size", MOST_STEPS), ("random_access", MOST_CHUNK), ("num", None)):
            value = getattr(given, name)
            if value is not None and not 1 <= value <= (most or value):
                raise InputError(f"--{name}={value}: must be 1 or more" + (f", {most} at most" if most else ""))
        if bool(given.images) == (given.data is not None):
            raise InputError("what to compress: must be IMAGES or --data, one of the two")
        if given.num is not None and given.data is None:
            raise InputError(f"--num={given.num}: goes with --data only")
        if given.out.exists():
            raise InputError(f"--out={given.out}: is there already; must be a new file")
        check_writable(given.out.parent, "--out")
        console = streams.make_console()
        run = coders.opened(given.run, given.checkpoint)
        if given.data is not None:
            images = given_images.of_split(run, given.data, given.num, given.labels, console)
        else:
            images = given_images.of_paths(run, given.images, given.labels, console)
        num_steps = given.T or run.model.num_steps or DEFAULT_STEPS
        compress(run, images, given.out, num_steps, given.batch_size, given.random_access, console)
