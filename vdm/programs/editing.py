"""What `vdm edit` and `vdm restore` share: the run, its settings, images with their conditions, and results."""

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
from vdm.programs.arguments import Parser
from vdm.programs.fitted import as_they_are, fitted
from vdm.programs.given_images import Like, OtherImages, like_model
from vdm.programs.sample import text_of
from vdm.progress import progress_of
from vdm.runs import results
from vdm.runs.companions import open_companions
from vdm.runs.open import Run, open_run
from vdm.runs.records import versions, weights_digest
from vdm.settings import as_word, in_file_name, recorded, shortened

DRAWS = 4
"""Default number of draws of each image."""
ROWS = 8
"""Number of images that a picture shows; default of --num."""
SETTINGS = ("steps", "sampler", "grid", "labels", "text", "guidance", "clip", "precision", "batch_size")
"""Fields of `SamplingConfig` that have a flag of the same name."""
_FLAGS = {LABEL: "labels"}
"""Flags for conditions that images may come without, where flag and condition differ in name."""


class Images(NamedTuple):
    """Images to edit, with their conditions, names and origin."""

    images: UInt8[np.ndarray, "images height width channels"]
    batch: Mapping[str, Any]
    """The images and those other entries (labels, groups, …) that every image has, by name."""
    names: Sequence[str]
    of: Mapping[str, Any]
    """How the record in STEM.json identifies them."""
    word: str
    """How the files' names identify them."""


def add_flags(parser: Parser) -> None:
    """Add the flags that both commands have."""
    parser.add_argument("--run", type=Path, required=True, help="folder of the trained run, or vdm:NAME")
    parser.add_argument("--checkpoint", default="latest", help="latest, best or a step (default: latest)")
    parser.add_argument("--resize", action="store_true", help="make pictures fit: size, channels, levels")
    parser.add_argument("--draws", type=int, help=f"draws of each image (default: {DRAWS})")
    parser.add_argument("--seed", type=int, default=0, help="seed; draw j of image k is always the same (default: 0)")
    parser.add_argument("--steps", type=int, help="steps of the sampler (default: the run's)")
    parser.add_argument("--sampler", help=f"{', '.join(parts.names('sampler'))} (default: the run's)")
    parser.add_argument("--grid", help="noise levels of the steps, e.g. karras(rho=7) (default: the run's)")
    parser.add_argument("--labels", help="labels to draw, used in turn, e.g. 3,7,cat (default: the images' own)")
    parser.add_argument("--text", action="append", help="a caption to draw; repeat it to use several in turn")
    parser.add_argument("--guidance", help="guidance to the labels, e.g. classifier_free(1.5) (default: none)")
    parser.add_argument("--clip", help="how x̂ is clipped, e.g. dynamic(99) (default: the run's)")
    parser.add_argument("--precision", help="precision of the network (default: the run's)")
    parser.add_argument("--batch_size", type=int, help="draws per network call (default: the run's)")
    parser.add_argument("--out", type=Path, help="folder to write to instead of the run's")


@dataclass(frozen=True)
class Editing:
    """A run to edit images with, and the settings to draw with."""

    run: Run
    settings: SamplingConfig
    seed: int
    draws: int
    folder: Path
    console: Console

    @classmethod
    def of(cls, given: argparse.Namespace, name: str, console: Console, **defaults: str) -> "Editing":
        """Open the run and read the settings from the flags given, with `defaults` in place of the run's settings.

        Results go to the folder `name` of the run, or to --out. Raises `InputError` for a model that is not of images,
        and for settings that it cannot have.
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
        """Networks that guide the model, by name."""
        return open_companions(self.run, self.settings.guidance)

    def given(self, texts: Sequence[str], resize: bool, like: Like | None = None, word: str = "images") -> Images:
        """Read the images that the command line names; `word` says in file names what they are.

        Raises `InputError` for another shape or other levels than the model's, or than `like` says.
        """
        like = like_model(self.run) if like is None else like
        fit = fitted(like.shape, like.levels) if resize else as_they_are
        try:
            given = given_images.of_paths(self.run, texts, None, self.console, fit, like)
        except OtherImages as error:
            raise InputError(f"{error}{'' if resize else '; --resize makes pictures fit'}") from error
        elements = [given.source[k] for k in range(len(given))]
        shared = set.intersection(*map(set, elements))
        batch = {name: np.stack([element[name] for element in elements]) for name in elements[0] if name in shared}
        digest = digest_of(batch["image"])
        names = given.names or [str(k) for k in range(len(given))]
        return Images(batch["image"], batch, names, {"sha256": digest, "num": len(given)}, f"{word}_{digest}")

    def of_test(self, num: int | None) -> Images:
        """Return `num` test images, spread over the split; None: `ROWS`, or all if there are fewer."""
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
        """Return the conditions to draw with: the labels and texts asked for, used in turn, or else the images' own.

        Raises `InputError` for conditions that the model does not have, and for images that lack needed ones.
        """
        if self.settings.labels is None and self.settings.text is None:
            return self.own_conditions(images)
        with _named_by_flags():
            asked = self.run.conditions(self.settings, self.seed)
        if unknown := unknown_words(asked.text, asked.captions):
            self.console.print(f"words never seen in training: {', '.join(unknown)}", style="yellow", soft_wrap=True)
        return asked(len(images.images))

    def own_conditions(self, images: Images, otherwise: str | None = None) -> Condition:
        """Return the conditions that come with the images, or None if none are needed.

        Raises `InputError` if a needed one is missing, and for labels that the model does not have; `otherwise` is what
        to do about it, by default to give the flag.
        """
        leads = parts.make("guidance", self.settings.guidance).leads
        needed = guides.needed(self.run.model, leads)
        if missing := [name for name in needed if name not in images.batch]:
            flags = " and ".join("--" + _FLAGS.get(name, name) for name in missing)
            needs = f"come without {' and '.join(missing)}, which the model needs"
            raise InputError(f"the images {needs}: {otherwise or f'give {flags}'}")
        found = {name: np.asarray(images.batch[name]) for name in needed}
        num = given_images.classes_of(self.run)
        if LABEL in found and num and not 0 <= found[LABEL].min() <= found[LABEL].max() < num:
            there = f"{found[LABEL].min()} to {found[LABEL].max()}"
            raise InputError(
                f"the images have labels from {there}; must be from 0 to {num - 1}: {otherwise or 'give --labels'}"
            )
        return found or None

    def editor(self, way: Way) -> Editor:
        """Return an `Editor` for `way`. Raises `InputError`, naming the flag, for settings not fit for the model."""
        with _named_by_flags():
            return Editor(self.run.model, self.run.mesh, self.settings, way, self.companions)

    def draw(self, way: Way, rows: Rows, condition: Condition) -> tuple[UInt8[np.ndarray, "images draws *data"], float]:
        """Return the draws of each image, and the seconds that they took, including compilation."""
        editor = self.editor(way)
        start = time.perf_counter()
        with progress_of(self.console, "drawing") as progress:
            drawn = editor(
                self.run.variables, self.run.key(Stream.SAMPLING, self.seed), self.draws, rows, condition, progress
            )
        return drawn, time.perf_counter() - start

    def encoded(self, images: Images) -> np.ndarray:
        """Return the images as x in [−1, 1]."""
        return np.asarray(likelihoods.encode(images.images, self.run.model.levels))

    def stem(self, images: Images, **words: Any) -> Path:
        """Return the files' path without suffix, named after the checkpoint, `words` and the settings."""
        mine = {"seed": self.seed, "draws": self.draws, **words}
        of_all = f"{results.stem(self.run, data=False, **mine)}_{as_word(images.word)}_{in_file_name(self.settings)}"
        return self.folder / shortened(of_all)

    def record(self, images: Images, **more: Any) -> dict[str, Any]:
        """Return everything that the draws depend on, for STEM.json."""
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
        """Write STEM.npz, STEM.json and STEM.png: a row for each of the first images, with `columns` in [−1, 1]."""
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
    """Return the run's sampling settings as changed by flags; labels, text and guidance come from flags alone.

    Raises `InputError`, naming the flag, for settings that no images can be drawn with.
    """
    asked = {name: getattr(given, name) for name in SETTINGS if getattr(given, name) is not None}
    if given.text is not None:
        asked["text"] = text_of(given.text, None)
    own = {"labels": None, "text": None, "guidance": "none"}
    settings = replace(run.config.sampling, **own | dict(defaults) | asked)
    with _named_by_flags():
        fewer = with_steps_of(settings, run.model.num_steps)
    # As in vdm sample, only the run's default steps are reduced to the model's; too many in --steps are an error.
    return fewer if given.steps is None else settings


@contextmanager
def _named_by_flags() -> Iterator[None]:
    """Let errors name flags instead of the config fields of the same name."""
    try:
        yield
    except InputError as error:
        raise InputError(re.sub(r"(config\.)?sampling\.", "--", str(error), count=1)) from error


def digest_of(array: np.ndarray) -> str:
    """Return the first eight hex digits of the SHA-256 of an array's values, which identify it in file names.

    >>> digest_of(np.array([True, False]))
    '47dc540c'
    """
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:8]


def made(flag: str, kind: str, text: str, **context: Any) -> Any:
    """Make the part that a flag names. Raises `InputError`, naming the flag, for an unknown or unfitting part."""
    try:
        return parts.make(kind, text, **context)
    except parts.PartError as error:
        raise InputError(str(error).replace(f"{kind}=", f"--{flag}=", 1)) from error
