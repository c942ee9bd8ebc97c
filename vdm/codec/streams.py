"""Several coders at once, one per device; results come in order and do not depend on the number of coders."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Worker, Item], Result], workers: Sequence[Worker], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield `work(worker, item)` for each item, in order; each worker handles one item at a time, in a thread.

    Items are taken only as needed: at most twice as many as there are workers are in progress. The first exception, in
    the order of the items, ends the iteration.

    >>> list(in_order(lambda worker, item: 10 * item, ["a", "b"], range(5)))
    [0, 10, 20, 30, 40]
    """
    free: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(item: Item) -> Result:
        worker = free.get()
        try:
            return work(worker, item)
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(max(len(workers), 1))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(waiting) == 2 * len(workers):
                yield waiting.popleft().result()
            waiting.append(pool.submit(one, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Do not wait: an interrupt should not take as long as a chunk.
        pool.shutdown(wait=False, cancel_futures=True)
