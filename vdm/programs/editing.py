"""What `vdm edit` and `vdm restore` share: run and settings, given images and their conditions, what is written."""

import argparse
import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from rich.console import Console

from vdm import guides, likelihoods, parallel, parts
from vdm.config import Config, SamplingConfig
from vdm.data import examples
from vdm.data.selection import CHOICE, order
from vdm.errors import InputError
from vdm.evaluation.edited import MOST_DRAWS, Editor, Rows, Way
from vdm.evaluation.images import with_steps_of
from vdm.evaluation.texts import unknown_words
from vdm.files import replacing, write_json
from vdm.guides import LABEL, Companion
from vdm.keys import Stream
from vdm.model import Condition
from vdm.plots import images as pictures
from vdm.programs import captions, compilation, given_images
from vdm.programs.command_line import Parser
from vdm.programs.fitted import as_they_are, fitted
from vdm.programs.given_images import OtherImages
from vdm.programs.sample import text_of
from vdm.progress import progress_of
from vdm.runs import results
from vdm.runs.companions import open_companions
from vdm.runs.open import Run, open_run
from vdm.runs.records import versions, weights_digest
from vdm.settings import as_word, in_file_name, recorded, shortened

DRAWS = 4
"""Of each image, by default."""
ROWS = 8
"""Images in a picture."""
SETTINGS = ("steps", "sampler", "grid", "labels", "text", "guidance", "clip", "precision", "batch_size")
"""Fields of `SamplingConfig` that have flags of their name."""
_FLAGS = {LABEL: "labels"}
"""That give what images may come without."""


class Images(NamedTuple):
    """Images that are given, with what else is known of them."""

    images: UInt8[np.ndarray, "images height width channels"]
    batch: Mapping[str, Any]
    """By entry: of labels, groups, … those that all images have."""
    names: Sequence[str]
    of: Mapping[str, Any]
    """What a record says of them."""
    word: str
    """What a file's name does."""


def add_flags(parser: Parser) -> None:
    """The flags that both commands have."""
    parser.add_argument("--run", type=Path, required=True, help="folder of the trained run, or vdm:NAME")
    parser.add_argument("--checkpoint", default="latest", help="latest, best or a step (default: latest)")
    parser.add_argument("--resize", action="store_true", help="make pictures fit: size, channels, levels")
    parser.add_argument("--draws", type=int, help=f"draws of each image (default: {DRAWS})")
    parser.add_argument("--seed", type=int, default=0, help="seed; draw j of image k is always the same (default: 0)")
    parser.add_argument("--steps", type=int, help="steps of the sampler (default: the run's)")
    parser.add_argument("--sampler", help=f"{', '.join(parts.names('sampler'))} (default: the run's)")
    parser.add_argument("--grid", help="noise levels of the steps, as karras(rho=7) (default: the run's)")
    parser.add_argument("--labels", help="labels to draw towards, in turn, as 3,7,cat (default: the images' own)")
    parser.add_argument("--text", action="append", help="a caption to draw towards; several --text, in turn")
    parser.add_argument("--guidance", help="guidance to the labels, as classifier_free(1.5) (default: none)")
    parser.add_argument("--clip", help="what x̂ is kept in, as dynamic(99) (default: the run's)")
    parser.add_argument("--precision", help="what the network computes in (default: the run's)")
    parser.add_argument("--batch_size", type=int, help="draws a network call (default: the run's)")
    parser.add_argument("--out", type=Path, help="folder to write to instead of the run's")


@dataclass(frozen=True)
class Editing:
    """A run to edit images with, and how."""

    run: Run
    settings: SamplingConfig
    seed: int
    draws: int
    folder: Path
    console: Console

    @classmethod
    def of(cls, given: argparse.Namespace, name: str, console: Console, **defaults: str) -> "Editing":
        """By flags, `defaults` in place of the run's settings; results go to the folder `name` of the run or of --out.

        Raises `InputError` for what the model cannot do.
        """
        draws = DRAWS if given.draws is None else given.draws
        for flag, value, least, most in (("draws", draws, 1, MOST_DRAWS), ("seed", given.seed, 0, 2**32 - 1)):
            if not least <= value <= most:
                raise InputError(f"--{flag}={value}: must be from {least} to {most}")
        parallel.setup()
        compilation.keep()
        folder = results.folder_of(given.run, given.out, name)
        run = open_run(given.run, given.checkpoint, kind=Config)
        if len(run.model.shape) != 3 or run.model.levels == likelihoods.REAL:
            raise InputError(f"--run={given.run}: the model is of vectors or of real numbers; must be of images")
        settings = settings_of(run, given, defaults)
        return cls(run, settings, given.seed, draws, folder, console)

    @cached_property
    def companions(self) -> dict[str, Companion]:
        """What guides beside the model."""
        return open_companions(self.run, self.settings.guidance)

    def given(self, texts: Sequence[str], resize: bool) -> Images:
        """The images that --image names. Raises `InputError` for what the model has none like."""
        model = self.run.model
        fit = fitted(model.shape, model.levels) if resize else as_they_are
        try:
            given = given_images.of_paths(self.run, texts, None, self.console, fit)
        except OtherImages as error:
            raise InputError(f"{error}{'' if resize else '; --resize makes pictures fit'}") from error
        elements = [given.source[k] for k in range(len(given))]
        shared = set.intersection(*map(set, elements))
        batch = {name: np.stack([element[name] for element in elements]) for name in elements[0] if name in shared}
        digest = digest_of(batch["image"])
        names = given.names or [str(k) for k in range(len(given))]
        return Images(batch["image"], batch, names, {"sha256": digest, "num": len(given)}, f"images_{digest}")

    def of_test(self, num: int | None) -> Images:
        """So many test images, from all over the split; None: `ROWS`, or all."""
        with progress_of(self.console, "reading the data") as progress:
            test = self.run.load(progress).test
        num = min(ROWS, len(test)) if num is None else num
        if not 1 <= num <= len(test):
            raise InputError(f"--num={num}: must be from 1 to {len(test)}, the number of test images")
        indices = order(len(test))[:num]
        batch, other = examples(test, indices), results.other_data(self.run)
        of = {"test images": CHOICE, "num": num} | ({"data": other} if other else {})
        return Images(batch["image"], batch, [str(k) for k in indices], of, f"test_{num}")

    def conditions(self, images: Images) -> Condition:
        """What the images are drawn towards: labels and texts that are asked for, in turn, else the images' own.

        Raises `InputError` for those that the model does not know, and for images without them where they are needed.
        """
        if self.settings.labels is None and self.settings.text is None:
            return self.own_conditions(images)
        with _named_by_flags():
            asked = self.run.conditions(self.settings, self.seed)
        if unknown := unknown_words(asked.text, asked.captions):
            self.console.print(f"words never seen in training: {', '.join(unknown)}", style="yellow", soft_wrap=True)
        return asked(len(images.images))

    def own_conditions(self, images: Images) -> Condition:
        """Those that come with the images; None where none are needed. Raises `InputError` where they lack them."""
        leads = parts.make("guidance", self.settings.guidance).leads
        needed = guides.needed(self.run.model, leads)
        if missing := [name for name in needed if name not in images.batch]:
            raise InputError(
                f"the images come without {' and '.join(missing)}, which the model needs: give "
                f"{' and '.join('--' + _FLAGS.get(name, name) for name in missing)}"
            )
        return {name: np.asarray(images.batch[name]) for name in needed} or None

    def editor(self, way: Way) -> Editor:
        """What draws by `way`. Raises `InputError`, naming the flag, for settings that the model cannot have."""
        with _named_by_flags():
            return Editor(self.run.model, self.run.mesh, self.settings, way, self.companions)

    def draw(self, way: Way, rows: Rows, condition: Condition) -> tuple[UInt8[np.ndarray, "images draws *data"], float]:
        """The draws of each image, and the seconds that they took, with compiling."""
        editor = self.editor(way)
        start = time.perf_counter()
        with progress_of(self.console, "drawing") as progress:
            drawn = editor(
                self.run.variables, self.run.key(Stream.SAMPLING, self.seed), self.draws, rows, condition, progress
            )
        return drawn, time.perf_counter() - start

    def encoded(self, images: Images) -> np.ndarray:
        """x in [−1, 1]."""
        return np.asarray(likelihoods.encode(images.images, self.run.model.levels))

    def stem(self, images: Images, **words: Any) -> Path:
        """What files are called: by the checkpoint, `words` and the settings."""
        mine = {"seed": self.seed, "draws": self.draws, **words}
        of_all = f"{results.stem(self.run, data=False, **mine)}_{as_word(images.word)}_{in_file_name(self.settings)}"
        return self.folder / shortened(of_all)

    def record(self, images: Images, **more: Any) -> dict[str, Any]:
        """All that draws depend on."""
        weights = {"weights": weights_digest(self.run.variables)}
        weights |= {f"weights_{name}": weights_digest(each.variables) for name, each in self.companions.items()}
        of_run = {"checkpoint_step": self.run.step, **weights, "seed": self.seed, "draws": self.draws}
        return {**of_run, **recorded(self.settings), "images": dict(images.of), **more, "versions": versions()}

    def write(
        self,
        stem: Path,
        record: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        columns: Mapping[str, np.ndarray],
        images: Images,
        caption: str = "",
    ) -> None:
        """STEM.npz, STEM.json and STEM.png: of the first images a row each, with `columns` by name in [−1, 1]."""
        if not parallel.is_main():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        npz, json, png = (stem.with_name(stem.name + suffix) for suffix in (".npz", ".json", ".png"))
        with replacing(npz) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **dict[str, Any](arrays))
        write_json(json, record)
        of_run = captions.of_samples(self.run.path, self.run.step, self.seed, self.settings)
        frames = np.stack(list(columns.values()))[:, :ROWS]
        names = [name if len(name) <= 24 else f"{name[:23]}…" for name in images.names[:ROWS]]
        pictures.strip(frames, png, "\n".join(filter(None, [of_run, caption])), list(columns), names)
        for path in (npz, json, png):
            self.console.print(f"wrote {path}", soft_wrap=True)


def settings_of(run: Run, given: argparse.Namespace, defaults: Mapping[str, str]) -> SamplingConfig:
    """The run's settings with those of the flags; of labels, texts and guidance the run's are not taken.

    Raises `InputError`, naming the flag, for those that no images could be drawn with.
    """
    asked = {name: getattr(given, name) for name in SETTINGS if getattr(given, name) is not None}
    if given.text is not None:
        asked["text"] = text_of(given.text, None)
    own = {"labels": None, "text": None, "guidance": "none"}
    settings = replace(run.config.sampling, **own | dict(defaults) | asked)
    with _named_by_flags():
        fewer = with_steps_of(settings, run.model.num_steps)
    # As vdm sample: of steps that are asked for, too many are an error.
    return fewer if given.steps is None else settings


@contextmanager
def _named_by_flags() -> Iterator[None]:
    """Errors of a config's fields are those of the flags of their names."""
    try:
        yield
    except InputError as error:
        raise InputError(re.sub(r"(config\.)?sampling\.", "--", str(error), count=1)) from error


def digest_of(array: np.ndarray) -> str:
    """Tells what was given apart, in eight letters: the beginning of a SHA-256 of its values.

    >>> digest_of(np.array([True, False]))
    '47dc540c'
    """
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:8]


def made(flag: str, kind: str, text: str, **context: Any) -> Any:
    """The part that a flag names. Raises `InputError` with the flag for another, and for one that does not fit."""
    try:
        return parts.make(kind, text, **context)
    except parts.PartError as error:
        raise InputError(str(error).replace(f"{kind}=", f"--{flag}=", 1)) from error
