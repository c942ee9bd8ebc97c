"""`vdm compress`: code chunks of images on every device, keep finished chunks, and join them into one file."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from rich.console import Console

from vdm.codec.chain import Chain
from vdm.codec.coding import encode_chunk, here, sized
from vdm.codec.container import LONGEST_TEXT, Coded, Header, digest, front
from vdm.codec.streams import in_order
from vdm.errors import InputError, is_disk_full
from vdm.evaluation.coding import fingerprint
from vdm.files import printable
from vdm.programs.coders import Stopwatch, coders
from vdm.programs.given_images import Chunk, Given
from vdm.programs.partial import Kept, Partial
from vdm.progress import SECONDS_BETWEEN_LINES, duration, progress_of
from vdm.runs.open import Run


class Work(NamedTuple):
    """What this session coded, and how long it took."""

    images: int
    """Images coded in this session, not in an interrupted one before."""
    seconds: float
    coders: float
    """Fraction of the time spent in the coders, outside the network."""


def compress(run: Run, given: Given, out: Path, num_steps: int, batch_size: int, chunk: int, console: Console) -> None:
    """Compress the images into the file `out`, which appears only when it is complete.

    Finished chunks wait in FILE.partial until then. They are kept if the disk is full, which raises `InputError`.
    """
    num, model = len(given), run.model
    chunk = min(chunk, num)
    header = Header(
        T=num_steps,
        batch_size=sized(batch_size, chunk, model.shape, model.levels),
        chunk=chunk,
        classes=given.classes,
        images=num,
        levels=model.levels,
        made_on=here(),
        model=f"sha256:{fingerprint(model, run.variables)}",
        names=given.names is not None,
        note=printable(given.note)[:LONGEST_TEXT],
        run=printable(run.name)[:LONGEST_TEXT],
        shape=tuple(model.shape),
        step=run.step,
    )
    try:
        header.check("header")
    except InputError as error:
        flags = str(error).replace("header.chunk", "--random_access").replace("header.batch_size", "--batch_size")
        raise InputError(flags) from error
    try:
        with closing(Partial(out, header, given.names, console)) as partial:
            done, work = _chunks(run, given, header, partial, console)
            entries = [done[k].entry for k in range(header.num_chunks)]
            size = partial.finish(out, header, entries)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise InputError(
            f"--out={out}: the disk is full; finished chunks are kept in {out.name}.partial; make room and run the "
            "same command to go on"
        ) from error
    console.print(_summary(header, out, size, len(front(header, entries)), done, work))


def _chunks(run: Run, given: Given, header: Header, partial: Partial, console: Console) -> tuple[dict[int, Kept], Work]:
    """Return every chunk by its number, and this session's work; chunks of an earlier session are not coded again."""
    done = {}
    for k in range(header.num_chunks) if any(partial.folder.glob("chunk_*.npz")) else ():
        images, labels, _ = given(header.numbers(k))
        if kept := partial.find(k, digest(images, labels)):
            done[k] = kept
    missing = [k for k in range(header.num_chunks) if k not in done]
    if done:
        console.print(f"{partial.folder}: has {len(done)} of {header.num_chunks} chunks already; going on from there")
    chains = coders(run, header.T, header.batch_size, header.bins, len(missing)) if missing else []
    watch, start = Stopwatch(chains), time.perf_counter()

    def work(chain: Chain, item: tuple[int, Chunk]) -> tuple[int, Coded, Kept]:
        k, (images, labels, names) = item
        try:
            with watch():
                coded, rate = encode_chunk(chain, images, labels, header.classes, names)
        except ValueError as error:
            numbers = header.numbers(k)
            raise InputError(f"--run={run.path}: cannot code images {numbers[0]} to {numbers[-1]}: {error}") from error
        return k, coded, Kept(coded.entry, rate.seeds, rate.images, rate.bits)

    with _told(console, header) as tell:
        tell(done)
        # Images are read in this thread: a source need not be thread-safe.
        for k, coded, kept in in_order(work, chains, ((k, given(header.numbers(k))) for k in missing)):
            partial.keep(k, coded, kept)
            done[k] = kept
            tell(done)
    coded_now = sum(len(header.numbers(k)) for k in missing)
    return done, Work(coded_now, time.perf_counter() - start, watch.share)


class Tell(Protocol):
    """Reports progress."""

    def __call__(self, done: Mapping[int, Kept]) -> None:
        """Report the chunks finished so far."""


@contextmanager
def _told(console: Console, header: Header) -> Iterator[Tell]:
    """Yield what reports images done, bits/dim so far and time left; without a terminal, as a line now and then."""
    start = said = time.monotonic()
    first: int | None = None

    with progress_of(console, "compressing") as progress:

        def tell(done: Mapping[int, Kept]) -> None:
            nonlocal said, first
            images = sum(len(header.numbers(k)) for k in done)
            first = images if first is None else first
            rate = 8 * sum(kept.entry.size for kept in done.values()) / max(images * header.num_dims, 1)
            note = f"{rate:.3f} bits/dim" if images else ""
            progress(images, header.images, note)
            now = time.monotonic()
            if not console.is_terminal and now - said > SECONDS_BETWEEN_LINES and images > first:
                left = duration((now - start) * (header.images - images) / (images - first))
                console.print(f"compressing: {images}/{header.images}, {note} so far, {left} left")
                said = now

        yield tell


def _summary(header: Header, out: Path, size: int, of_front: int, done: Mapping[int, Kept], work: Work) -> str:
    """Return one line: bytes, rates, images stored without the model, images/s, and the coder's share of the time."""
    seeds, coded, bits = (sum(getattr(kept, name) for kept in done.values()) for name in ("seeds", "images", "bits"))
    net = f"net rate {bits / (coded * header.num_dims):.4f}; " if coded else ""
    pace = (
        f"; {work.images / work.seconds:.3g} images/s, {work.coders:.0%} of the time spent in the coder"
        if work.images
        else ""
    )
    return (
        f"wrote {out}: {header.images} images in {size} bytes ({of_front} of header and index), "
        f"{8 * size / (header.images * header.num_dims):.4f} bits/dim ({net}images stored without the model: {seeds})"
        f"{pace}"
    )
