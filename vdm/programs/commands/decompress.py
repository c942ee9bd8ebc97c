"""Restore the images of a file made by vdm compress, bit for bit.

vdm decompress digits.vdm --out=digits
vdm decompress digits.vdm --out=some --run=runs/digits --only=120-130 --npz

The run must have the checkpoint that made the file; its config.json and checkpoints/ are enough. Images become PNG
files with their original names, or else 00000.png, … by number. Their values are unchanged: with 17 levels they are 0
to 16, and look dark. With --npz they become one images.npz with the array `images`, and `label` if there are labels; a
config reads it as npz:PATH, with data.levels. If the file has only some of the images, its array `number` says which.

Each chunk is verified against a checksum of its images. A chunk that does not decode to them, as may happen on another
platform, is never written. The error says which images are lost; those of the other chunks are written.
"""

from collections.abc import Sequence
from pathlib import Path

from vdm.codec.container import Container
from vdm.errors import InputError
from vdm.files import check_writable
from vdm.programs import streams
from vdm.programs.arguments import Parser
from vdm.programs.decompress import check_pictures, decompress, numbers_of, run_of


def main(argv: Sequence[str] | None = None) -> None:
    """Write the images; bad input is one line on stderr and exit status 2."""
    parser = Parser("vdm decompress", __doc__)
    parser.add_argument("file", type=Path, help="a file made by vdm compress")
    parser.add_argument("--out", type=Path, required=True, help="the new folder")
    parser.add_argument("--run", help="the run, or RUN:CHECKPOINT (default: where the file says it was)")
    parser.add_argument("--only", help="numbers of images, e.g. 120-130 or 7 (default: all)")
    parser.add_argument("--npz", action="store_true", help="write one images.npz, not PNG files")
    given = parser.parse_args(argv)
    with parser.one_line():
        file = Container.of_path(given.file)
        only = numbers_of(given.only, file.header)
        if not given.npz:
            check_pictures(file)
        if given.out.exists() and not (given.out.is_dir() and not any(given.out.iterdir())):
            raise InputError(f"--out={given.out}: is there already; must be a new or empty folder")
        check_writable(given.out, "--out")
        decompress(file, run_of(file, given.run), given.out, only, given.npz, streams.make_console())
