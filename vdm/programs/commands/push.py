"""Release a trained run: its averaged weights, its config and a card, in a folder or on the Hugging Face hub.

vdm push runs/digits models/digits --licence=Apache-2.0 --data_licence='CC BY 4.0'
vdm push runs/digits hf:owner/digits --licence=Apache-2.0 --data_licence='CC BY 4.0'
vdm push vdm:digits hf:owner/digits

The card has the data, the commands, the versions, and what the run measured: evaluation.json, evaluations/ and the
metrics of samples/. Measure first. Absolute paths of this machine do not get into it. Give --replace to add what was
measured later. A released model is pushed as it is. The hub needs `pip install 'vdm[hub]'`, and a token as
huggingface_hub wants it (HF_TOKEN).
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vdm.errors import InputError
from vdm.files import check_writable
from vdm.programs.command_line import Parser
from vdm.runs import cards, hub
from vdm.runs.open import open_run
from vdm.runs.places import NAME, is_released, located, split_checkpoint
from vdm.runs.released import check_files, copy

CARD_FLAGS = ("licence", "data_licence", "description", "machine")


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the folder; bad input is one line on stderr and exit status 2."""
    parser = Parser("vdm push", __doc__)
    parser.add_argument("run", metavar="RUN", help="RUN or RUN:CHECKPOINT, or vdm:NAME")
    parser.add_argument("target", metavar="TARGET", help="the folder to make, or hf:OWNER/NAME")
    parser.add_argument("--name", help="what vdm:NAME calls it (default: the last word of TARGET)")
    parser.add_argument("--licence", help="licence of the weights, e.g. Apache-2.0 (required)")
    parser.add_argument("--data_licence", help="licence of the data that it was trained on (required)")
    parser.add_argument("--description", default="", help="one sentence on what it is")
    parser.add_argument("--machine", default="", help="what it was trained on, e.g. '2 CPU cores, no GPU'")
    parser.add_argument("--replace", action="store_true", help="replace a folder that is there already")
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
    """The released model in a folder: that of a run, or another one as it is."""
    path, checkpoint = split_checkpoint(given.run)
    source, name = located(path), given.name or folder.resolve().name
    if not NAME.fullmatch(name):
        raise InputError(f"--name={name}: must be letters, digits, '_', '-' and '.'")
    if is_released(source):
        if checkpoint != "latest":
            raise InputError(f"RUN={given.run}: a released model has one checkpoint; must be {path}")
        for flag in ("name", *CARD_FLAGS):
            if getattr(given, flag):
                raise InputError(f"--{flag}: {given.run} has a card already and is pushed as it is; leave the flag out")
        check_files(source)
        copy(source, folder)
        return
    for flag in CARD_FLAGS[:2]:
        if not getattr(given, flag):
            raise InputError(f"--{flag}: must be given, as --{flag}=Apache-2.0")
    about = cards.About(name, given.licence, given.data_licence, given.description, given.machine)
    cards.write(open_run(source, checkpoint), about, folder)
