"""Several coders at work at once, one a device: their results in order, the same however many they are."""

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
    """`work(worker, item)` of each item, in their order; each worker has one item at a time, in a thread.

    Items are taken as there is use for them: not more are under way than twice the workers. The first exception, in the
    order of items, ends all.

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
        # Without waiting: an interrupt must not last as long as a chunk.
        pool.shutdown(wait=False, cancel_futures=True)
