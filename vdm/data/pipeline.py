"""Batches of images: without end, shuffled and resumable to train on; each image once to evaluate on."""

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker

import grain
import numpy as np
from absl import flags

from vdm.data import augmentations as augmentations_lib
from vdm.data.dataset import Batch, Checked, Dataset, Element, Source, examples, stack
from vdm.data.selection import selected
from vdm.data.texts import Captioned, EveryCaption, one_caption
from vdm.errors import InputError, WorkerDied

READ_OPTIONS = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
"""Threads that read, and batches that wait, in each process."""

REQUESTS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Signals that ask a program to stop."""


def train_iterator(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    augmentations: Sequence[str] = (),
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Batches of the train split without end, of all entries that it has: "image", uint8 (b, H, W, C), "label", ….

    b is batch_size / process_count. Augmentations change the image alone.

    Every epoch visits each image once, in an order of its own; batches run across the ends of epochs, so no image is
    left out. `batch_size` counts the images of all processes, and each process gets its block of rows: the global
    batch, in order and with its augmentations, is a function of the seed and the step alone, whatever the number of
    processes and workers. The state (`get_state`, `set_state`, or Grain's checkpoint handler for Orbax) is the number
    of batches taken, {"next_index": int}, and resumes to the bit, with any number of workers.

    With `num_workers`, call `close()` after use, and guard the program by `if __name__ == "__main__"`. A worker that is
    killed raises `WorkerDied` within about a second, and leaves a state that resumes.

    Raises `InputError` for a batch size that is not positive, exceeds the split or does not divide among the
    processes, a seed outside 0 .. 2³² − 1, a negative number of workers, or augmentations that do not fit the images.
    """
    local_size = _local_size(batch_size, process_count, "training.batch_size")
    if batch_size > len(dataset.train):
        raise InputError(
            f"training.batch_size: {batch_size} exceeds the {len(dataset.train)} images of the train split"
        )
    if not 0 <= seed < 2**32:
        raise InputError(f"seed: {seed} is outside 0 to {2**32 - 1}")
    if num_workers < 0:
        raise InputError(f"data.num_workers: {num_workers} is negative")

    captioned = dataset.train.source if isinstance(dataset.train, Checked) else None
    if isinstance(captioned, Captioned) and captioned.several:
        # Each time that an image comes it has one of its captions.
        every = grain.MapDataset.source(EveryCaption(dataset.train, captioned)).seed(seed).shuffle().repeat()
        elements = every.random_map(one_caption)
    else:
        elements = grain.MapDataset.source(dataset.train).seed(seed).shuffle().repeat()
    for augmentation in augmentations_lib.get(tuple(augmentations), dataset.info.shape):
        elements = elements.random_map(partial(_augmented, augmentation))
    # Local batches are cut from the global order, so batches p, p + P, p + 2P, … are block p of each global batch.
    batches = elements.batch(local_size, batch_fn=stack)[process_index::process_count]
    return _BatchIterator(batches, num_workers)


def _augmented(
    augmentation: augmentations_lib.Augmentation, element: Element, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    return {**element, "image": augmentation(element["image"], rng)}


class _BatchIterator(grain.DatasetIterator):
    """Iterates over `batches` with threads or worker processes; its state is the number of batches taken.

    Grain's own iterators have states that only the same number of workers can restore; this one can resume with any.
    """

    def __init__(self, batches: grain.MapDataset, num_workers: int):
        super().__init__()
        self._batches, self._num_workers = batches, num_workers
        self._start(0)

    def _start(self, position: int) -> None:
        iterable = self._batches[position:].to_iter_dataset(READ_OPTIONS)
        if self._num_workers:
            # Its start unblocks signals: not later, among those blocked for workers.
            resource_tracker.ensure_running()
            if not flags.FLAGS.is_parsed():  # Grain reads absl flags here; a program need not have any
                flags.FLAGS.mark_as_parsed()
            iterable = iterable.mp_prefetch(
                grain.MultiprocessingOptions(self._num_workers, per_worker_buffer_size=2), _prepare_worker
            )
        self._first, self._position, self._iterator = position, position, iter(iterable)

    def __next__(self) -> Batch:
        try:
            with _not_of_workers():
                batch = next(self._iterator)
        except RuntimeError as error:
            # Grain's words for a process that is gone; what a worker raises comes as it is.
            found = re.search(r"unexpectedly with exit code (-?\d+)", str(error))
            if not found:
                raise
            raise WorkerDied(self._died(int(found[1]))) from error
        self._position += 1
        return batch

    def _died(self, status: int) -> str:
        # Workers take turns.
        which = (self._position - self._first) % self._num_workers + 1
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return (
            f"data worker {which} of {self._num_workers} {how}; run the same command to go on. If nobody killed it, "
            "memory may have run out: fewer config.data.num_workers need less"
        )

    def get_state(self) -> dict[str, int]:
        return {"next_index": self._position}

    def set_state(self, state: dict[str, int]) -> None:
        self._iterator.close()
        self._start(state["next_index"])

    def start_prefetch(self) -> None:
        with _not_of_workers():
            self._iterator.start_prefetch()

    def close(self) -> None:
        super().close()
        self._iterator.close()


@contextmanager
def _not_of_workers() -> Iterator[None]:
    """Ctrl-C in a terminal, and many a scheduler's SIGTERM, is for all processes: workers started here are deaf to it.

    It is for the main process, which saves before it stops, and with which they end. There another thread takes the
    signals that this one blocks, or this one afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker(worker_index: int, worker_count: int) -> None:
    """In a worker: without the main process there is no work."""
    threading.Thread(target=_end_with_main, daemon=True).start()


def _end_with_main() -> None:
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)


def num_evaluated(source: Source, max_images: int) -> int:
    """How many images `source` has, or `max_images` if that is positive and less."""
    return len(selected(len(source), max_images))


def evaluation_batches(
    source: Source,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    max_images: int = 0,
) -> Iterator[Batch]:
    """Batches that hold every image of `source` exactly once, in order; or `max_images`, if positive, that `selected`
    chooses from all over it.

    A batch has all entries of the source, "image": uint8 (b, H, W, C), …, and "mask": bool (b,) and "index": int32
    (b,), the place in the source, with b = batch_size / process_count. The last one is filled up with zeros of each
    entry, where mask is False and index −1, so that all batches have one shape; every process gets the same number of
    batches, and its block of rows of each.

    Raises `InputError` for a batch size that is not positive or does not divide among the processes.
    """
    local_size = _local_size(batch_size, process_count, "evaluation.batch_size")
    indices = selected(len(source), max_images).astype(np.int32)
    starts = range(process_index * local_size, -(-len(indices) // batch_size) * batch_size, batch_size)
    return (_padded_batch(source, indices[start : start + local_size], local_size) for start in starts)


def _padded_batch(source: Source, indices: np.ndarray, size: int) -> Batch:
    """These elements, filled up to `size`."""
    padding = size - len(indices)
    # Of a share that is padding alone, the first element gives the shapes.
    batch = examples(source, indices if len(indices) else [0])

    def padded(entry: np.ndarray) -> np.ndarray:
        return np.concatenate([entry[: len(indices)], np.zeros((padding, *entry.shape[1:]), entry.dtype)])

    return {name: padded(entry) for name, entry in batch.items()} | {
        "mask": np.arange(size) < len(indices),
        "index": np.concatenate([indices, np.full(padding, -1, np.int32)]),
    }


def _local_size(batch_size: int, process_count: int, field: str) -> int:
    if batch_size < 1:
        raise InputError(f"{field}: {batch_size} is not positive")
    if batch_size % process_count:
        raise InputError(f"{field}: {batch_size} is not divisible by the {process_count} processes")
    return batch_size // process_count
