"""Batches: endless, shuffled and resumable for training; every image exactly once for evaluation."""

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
"""Number of reading threads and of batches buffered, in each process."""

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
    """Iterate endlessly over shuffled batches of the train split, which have all of its entries.

    "image" is uint8 (b, H, W, C), where b = batch_size / process_count. Augmentations change only the image.

    Every epoch visits each image once, in a new order. Batches cross the ends of epochs, so no image is dropped.
    `batch_size` counts the images of all processes, and each process gets its own block of rows. The global batch,
    including its order and augmentations, depends only on the seed and the step, not on the number of processes or
    workers. The iterator's state (`get_state`, `set_state`, or Grain's checkpoint handler for Orbax) is the number of
    batches taken, {"next_index": int}; training resumes bit for bit from it, with any number of workers.

    With `num_workers` > 0, call `close()` after use, and guard the main program with `if __name__ == "__main__"`. If a
    worker is killed, `WorkerDied` is raised within about a second, and the state can still be resumed from.

    Raises `InputError` for a batch size that is not positive, exceeds the split or is not divisible by the number of
    processes; a seed outside 0 to 2³² − 1; a negative number of workers; and augmentations that do not fit the images.
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
        # Each time an image is visited, one of its captions is drawn.
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
    """Iterate over `batches` with threads or worker processes; the state is the number of batches taken.

    The states of Grain's own iterators can be restored only with the same number of workers; this one works with any.
    """

    def __init__(self, batches: grain.MapDataset, num_workers: int):
        super().__init__()
        self._batches, self._num_workers = batches, num_workers
        self._start(0)

    def _start(self, position: int) -> None:
        iterable = self._batches[position:].to_iter_dataset(READ_OPTIONS)
        if self._num_workers:
            # Starting the tracker unblocks signals, so start it now rather than while they are blocked for the workers.
            resource_tracker.ensure_running()
            if not flags.FLAGS.is_parsed():  # Grain reads absl flags here, which a program need not have
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
            # Grain's message for a process that has died; exceptions raised by a worker arrive unchanged.
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
            f"data worker {which} of {self._num_workers} {how}; run the same command to resume. If nobody killed it, "
            "memory may have run out: lower config.data.num_workers"
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
    """Start workers that ignore signals to stop, which a terminal (Ctrl-C) and many schedulers send to every process.

    Only the main process should react: it saves before it stops, and the workers end with it. Signals blocked here are
    delivered to another thread of the main process, or to this one afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker(worker_index: int, worker_count: int) -> None:
    """Make a worker process exit together with the main process."""
    threading.Thread(target=_end_with_main, daemon=True).start()


def _end_with_main() -> None:
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)


def num_evaluated(source: Source, max_images: int) -> int:
    """Return how many images are evaluated: all of `source`, or at most `max_images` if that is positive."""
    return len(selected(len(source), max_images))


def evaluation_batches(
    source: Source,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    max_images: int = 0,
) -> Iterator[Batch]:
    """Iterate over batches that together hold every image of `source` exactly once, in order.

    If `max_images` is positive, only that many are used, chosen by `selected` from the whole split. Batches have all
    entries of the source, such as "image": uint8 (b, H, W, C), and in addition "mask": bool (b,) and "index": int32
    (b,), the position in the source, with b = batch_size / process_count. The last batch is padded with zeros, where
    mask is False and index −1, so that all batches have the same shape. Every process gets the same number of batches,
    and its own block of rows of each.

    Raises `InputError` for a batch size that is not positive or not divisible by the number of processes.
    """
    local_size = _local_size(batch_size, process_count, "evaluation.batch_size")
    indices = selected(len(source), max_images).astype(np.int32)
    starts = range(process_index * local_size, -(-len(indices) // batch_size) * batch_size, batch_size)
    return (_padded_batch(source, indices[start : start + local_size], local_size) for start in starts)


def _padded_batch(source: Source, indices: np.ndarray, size: int) -> Batch:
    """Return these elements as a batch, padded to `size`."""
    padding = size - len(indices)
    # If a process has nothing but padding, the first element provides the shapes.
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
