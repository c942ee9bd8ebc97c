"""`vdm decompress`: decode chunks on every device, verify each against its digest, and write its images at once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from vdm.codec.chain import Chain
from vdm.codec.coding import Decoded, decode_chunk, here
from vdm.codec.container import LONGEST_NAME, Container, Damaged, Header
from vdm.codec.streams import in_order
from vdm.data.npz import NUMBER
from vdm.errors import InputError
from vdm.evaluation.coding import fingerprint
from vdm.files import printable, replacing
from vdm.programs import coders
from vdm.programs.given_images import DEFAULT_NAME, classes_of
from vdm.progress import progress_of
from vdm.reading import whole
from vdm.runs.open import Run
from vdm.runs.places import located, split_checkpoint

MODES = {1: "gray", 3: "RGB"}
"""Kinds of PNG file by their number of channels."""


def decompress(file: Container, run: Run, out: Path, only: range, npz: bool, console: Console) -> None:
    """Write the images with the numbers `only` into the folder `out`, as PNG files or one images.npz.

    Raises `InputError` if some of them are lost, after all others are written.
    """
    header = file.header
    _check_model(file, run)
    for line in header.made_on.other_than(here())[:1]:
        console.print(
            f"{file.where}: was made on another platform ({line}): it may not decode, and all images are verified"
        )
    numbers = [k for k in range(header.num_chunks) if _common(header, k, only)]
    chains = coders.coders(run, header.T, header.batch_size, header.bins, len(numbers))

    def work(chain: Chain, k: int) -> tuple[int, Decoded | Damaged]:
        try:
            return k, decode_chunk(chain, file, k)
        except Damaged as error:
            return k, error

    out.mkdir(parents=True, exist_ok=True)
    writer = Arrays(out, header.images) if npz else Pictures(out)
    done, lost = 0, list[tuple[int, Damaged]]()
    with progress_of(console, "decompressing") as progress:
        progress(0, len(only))
        for k, decoded in in_order(work, chains, numbers):
            if isinstance(decoded, Damaged):
                lost.append((k, decoded))
                continue
            wanted = _common(header, k, only)
            writer.write(decoded, wanted, wanted[0] - header.numbers(k)[0])
            done += len(wanted)
            progress(done, len(only))
    writer.finish()
    if lost:
        raise InputError(_lost(header, lost, len(numbers), done, out))
    console.print(f"wrote {done} images to {out}; every chunk matches its checksum")


def run_of(file: Container, text: str | None) -> Run:
    """Open the run that --run or else the file names, by default at the checkpoint that made the file.

    Raises `InputError` if the run does not exist.
    """
    header = file.header
    path, checkpoint = (Path(header.run), "latest") if text is None else split_checkpoint(text)
    if text is None and not located(path).is_dir():
        raise InputError(
            f"{file.where}: was made by the run {printable(path)}, which does not exist here; give --run=RUN"
        )
    return coders.opened(path, str(header.step) if checkpoint == "latest" else checkpoint)


def numbers_of(text: str | None, header: Header) -> range:
    """Return the numbers of images that "120-130" or "120" selects; all of them for None."""
    if text is None:
        return range(header.images)
    first, dash, last = text.partition("-")
    try:
        low = whole(first, 0, header.images - 1)
        return range(low, whole(last, low, header.images - 1) + 1 if dash else low + 1)
    except ValueError:
        allowed = f"numbers of images, FIRST-LAST, from 0 to {header.images - 1}"
        raise InputError(f"--only={text}: must be {allowed}") from None


def check_pictures(file: Container) -> None:
    """Raise `InputError` for images that PNG files cannot store: other than 1 or 3 channels."""
    shape = file.header.shape
    if len(shape) != 3 or shape[2] not in MODES:
        raise InputError(f"{file.where}: has images of shape {shape}; a PNG file has 1 or 3 channels; give --npz")


class Pictures:
    """Writes a PNG file for each image, with its values unchanged: 0 to 16 for 17 levels."""

    def __init__(self, folder: Path):
        self._folder, self._there = folder, set[str]()

    def write(self, decoded: Decoded, numbers: range, first: int) -> None:
        """Write images `first`, `first` + 1, … of a chunk; `numbers` are their numbers in the file."""
        for k, number in enumerate(numbers, start=first):
            name = self._name(decoded.names[k] if decoded.names else "", number)
            image = decoded.images[k]
            with replacing(self._folder / name) as partial:
                Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(partial, format="PNG")

    def _name(self, given: str, number: int) -> str:
        """Return a file name not used yet: the image's own name or its number."""
        name = safe(given) or DEFAULT_NAME.format(number)
        if name.casefold() in self._there:
            name = f"{name.removesuffix('.png')}_{number}.png"
        self._there.add(name.casefold())
        return name

    def finish(self) -> None:
        """Do nothing: every image is written already."""


class Arrays:
    """Writes one images.npz with `images`, `label` if there are labels, and `number` if it lacks some of the images."""

    def __init__(self, folder: Path, num: int):
        self._path, self._num, self._parts = folder / "images.npz", num, list[Decoded]()
        self._numbers: list[int] = []

    def write(self, decoded: Decoded, numbers: range, first: int) -> None:
        """Keep the images in memory until `finish`; arguments as of `Pictures.write`."""
        part = slice(first, first + len(numbers))
        labels = None if decoded.labels is None else decoded.labels[part]
        self._parts.append(Decoded(decoded.images[part], labels))
        self._numbers += numbers

    def finish(self) -> None:
        """Write the file, if there is something to write."""
        if not self._parts:
            return
        arrays = {"images": np.concatenate([part.images for part in self._parts])}
        labels = [part.labels for part in self._parts if part.labels is not None]
        if labels:
            arrays["label"] = np.concatenate(labels)
        if len(self._numbers) < self._num:
            arrays[NUMBER] = np.array(self._numbers)
        with replacing(self._path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def safe(name: str) -> str:
    """Turn an untrusted name into that of a PNG file, not hidden and without folders; "" if nothing of it is left.

    >>> safe("../../etc/.dog.jpeg"), safe("a/.."), safe("x" * 300) == "x" * 200 + ".png"
    ('dog.png', '', True)
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    stem = Path(last.lstrip(".")).stem if last.strip(".") else ""
    kept = "".join(letter for letter in stem if letter.isprintable() and letter not in '<>:"|?*').strip()
    short = kept.encode(errors="ignore")[: LONGEST_NAME - 55].decode(errors="ignore")
    return f"{short}.png" if short else ""


def _common(header: Header, chunk: int, only: range) -> range:
    """Return the numbers of the images in `only` that are in a chunk."""
    numbers = header.numbers(chunk)
    return range(max(numbers.start, only.start), min(numbers.stop, only.stop))


def _check_model(file: Container, run: Run) -> None:
    header = file.header
    if (found := f"sha256:{fingerprint(run.model, run.variables)}") != header.model:
        raise InputError(
            f"--run={run.path}: its model of step {run.step} ({found}) is not the one that made {file.where} "
            f"({header.model}, step {header.step})"
        )
    wanted = (tuple(run.model.shape), run.model.levels, classes_of(run))
    if (header.shape, header.levels, header.classes) != wanted:
        raise InputError(f"{file.where}: its header describes other images than those of the model of {run.path}")


def _lost(header: Header, lost: Sequence[tuple[int, Damaged]], num: int, done: int, out: Path) -> str:
    """Return the error line: what could not be decoded, and how many other images are written."""
    ranges = [f"{header.numbers(k)[0]} to {header.numbers(k)[-1]}" for k, _ in lost]
    others = f", … ({len(lost)})" * (len(lost) > 4)
    also = f"; {len(lost)} of {num} chunks are lost: images {', '.join(ranges[:4])}{others}" * (len(lost) > 1)
    return f"{lost[0][1]}{also}; {done} other images are in {out}"
