"""Prefetching: the next batches are sent to the devices while these are busy with earlier steps."""

import itertools
from collections import deque
from typing import Any

import grain
import jax
from jax.sharding import Mesh

from vdm import parallel
from vdm.errors import WorkerDied


class Prefetched(grain.DatasetIterator):
    """The batches of `iterator` as global arrays over the mesh, with the next ones transferred ahead of time.

    Steps are dispatched without waiting for them, and transfers are asynchronous, so one thread is enough: call
    `prefetch` after dispatching steps. The state, which a checkpoint saves, is that after the batches taken, regardless
    of what was read ahead. A `WorkerDied` error while reading ahead is raised only when that batch is asked for, so
    that the steps before it are completed.
    """

    def __init__(self, iterator: grain.DatasetIterator, mesh: Mesh):
        super().__init__()
        self._iterator, self._mesh = iterator, mesh
        # Batches read ahead, each with the state after it.
        self._ahead: deque[tuple[dict[str, jax.Array], Any]] = deque()
        self._error: WorkerDied | None = None
        self._state = iterator.get_state()

    def prefetch(self, num: int = 1) -> None:
        """Read ahead until `num` batches are there, and start their transfer."""
        while len(self._ahead) < num and self._error is None:
            try:
                batch = parallel.shard_batch(next(self._iterator), self._mesh)
                self._ahead.append((batch, self._iterator.get_state()))
            except WorkerDied as error:
                self._error = error

    def peek(self, num: int = 1) -> list[dict[str, jax.Array]]:
        """Return the next `num` batches without taking them."""
        self.prefetch(num)
        if self._error is not None and len(self._ahead) < num:
            raise self._error
        return [batch for batch, _ in itertools.islice(self._ahead, num)]

    def take(self, num: int) -> list[dict[str, jax.Array]]:
        """Take the next `num` batches, or none if one of them cannot be read."""
        batches = self.peek(num)
        for _ in batches:
            _, self._state = self._ahead.popleft()
        return batches

    def __next__(self) -> dict[str, jax.Array]:
        return self.take(1)[0]

    def get_state(self) -> Any:
        return self._state

    def set_state(self, state: Any) -> None:
        self._iterator.set_state(state)
        self._ahead.clear()
        self._state, self._error = state, None

    def close(self) -> None:
        super().close()
        self._iterator.close()
