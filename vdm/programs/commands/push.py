"""Release a trained run: its averaged weights, its config and a card, in a folder or on the Hugging Face hub.

vdm push runs/digits models/digits --licence=Apache-2.0 --data_licence='CC BY 4.0'
vdm push runs/digits hf:owner/digits --licence=Apache-2.0 --data_licence='CC BY 4.0'
vdm push vdm:digits hf:owner/digits

The card lists the data, the commands, the versions and every measurement of these weights: evaluation.json,
evaluations/ and the metrics in samples/. Measure first, or push again with --replace. Absolute paths of this machine
are left out. A released model (vdm:NAME) keeps its weights and its card; measurements made since by
`vdm evaluate --workdir=vdm:NAME` are added to the card. The hub needs `pip install 'vdm[hub]'` and a token in HF_TOKEN.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vdm.errors import InputError
from vdm.files import check_writable
from vdm.programs.arguments import Parser
from vdm.runs import cards, hub
from vdm.runs.open import open_run
from vdm.runs.places import NAME, is_released, located, split_checkpoint

LICENCES = ("licence", "data_licence")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder. Bad input gives one line on stderr and exit status 2."""
    parser = Parser("vdm push", __doc__)
    parser.add_argument("run", metavar="RUN", help="RUN or RUN:CHECKPOINT, or vdm:NAME")
    parser.add_argument("target", metavar="TARGET", help="the folder to make, or hf:OWNER/NAME")
    parser.add_argument("--name", help="its name in vdm:NAME (default: the last part of TARGET)")
    parser.add_argument("--licence", help="licence of the weights, e.g. Apache-2.0 (required)")
    parser.add_argument("--data_licence", help="licence of the training data (required)")
    parser.add_argument("--description", default="", help="one sentence about the model")
    parser.add_argument("--machine", default="", help="hardware of the training, e.g. '2 CPU cores, no GPU'")
    parser.add_argument("--replace", action="store_true", help="replace an existing folder")
    given = parser.parse_args(argv)
    with parser.one_line():
        if not hub.is_hub(given.target):
            folder = Path(given.target)
            _check_target(folder, given.replace)
            _make(given, folder)
            print(f"wrote {folder}")
            return
        repo = hub.repo_of(given.target)
        hub.check()
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent, repo.partition("@")[0].rpartition("/")[2])
            _make(given, folder)
            print(f"wrote {hub.upload(folder, repo)}")


def _check_target(folder: Path, replace: bool) -> None:
    if folder.exists() and not (replace and is_released(folder)):
        must = "--replace takes its place" if is_released(folder) else "must be a new folder"
        raise InputError(f"{folder}: is there already; {must}")
    check_writable(folder.parent, "TARGET")


def _make(given: argparse.Namespace, folder: Path) -> None:
    """Write the released model of a run, or copy one that is released, to a folder."""
    path, checkpoint = split_checkpoint(given.run)
    source = located(path)
    if is_released(source):
        if checkpoint != "latest":
            raise InputError(f"RUN={given.run}: a released model has one checkpoint; must be {path}")
        for flag in ("name", *LICENCES, "description", "machine"):
            if getattr(given, flag):
                raise InputError(f"--{flag}: {given.run} has a card, which says that already; leave the flag out")
        cards.write_again(open_run(path), folder)
        return
    name = given.name or folder.resolve().name
    if not NAME.fullmatch(name):
        raise InputError(f"--name={name}: must be letters, digits, '_', '-' and '.'")
    for flag in LICENCES:
        if not getattr(given, flag):
            raise InputError(f"--{flag}: must be given, as --{flag}=Apache-2.0")
    about = cards.About(name, given.licence, given.data_licence, given.description, given.machine)
    cards.write(open_run(source, checkpoint), about, folder)
