"""The next batches go to the devices while they are busy with the steps before."""

import itertools
from collections import deque
from typing import Any

import grain
import jax
from jax.sharding import Mesh

from vdm import parallel
from vdm.errors import WorkerDied


class Prefetched(grain.DatasetIterator):
    """The batches of `iterator` as global arrays over the mesh, the next of them put there ahead of time.

    Steps are dispatched without waiting for them, and transfers are asynchronous, so one thread is enough: call
    `prefetch` after steps are dispatched. The state is that of the batches taken, whatever was read ahead: what a
    checkpoint saves. What goes wrong in reading ahead is raised when the batch is asked for: the step before is whole.
    """

    def __init__(self, iterator: grain.DatasetIterator, mesh: Mesh):
        super().__init__()
        self._iterator, self._mesh = iterator, mesh
        # Batches with the state after each.
        self._ahead: deque[tuple[dict[str, jax.Array], Any]] = deque()
        self._error: WorkerDied | None = None
        self._state = iterator.get_state()

    def prefetch(self, num: int = 1) -> None:
        """Reads the next `num` batches and starts their transfer, but for those that are there."""
        while len(self._ahead) < num and self._error is None:
            try:
                batch = parallel.shard_batch(next(self._iterator), self._mesh)
                self._ahead.append((batch, self._iterator.get_state()))
            except WorkerDied as error:
                self._error = error

    def peek(self, num: int = 1) -> list[dict[str, jax.Array]]:
        """The next `num` batches, which are not taken."""
        self.prefetch(num)
        if self._error is not None and len(self._ahead) < num:
            raise self._error
        return [batch for batch, _ in itertools.islice(self._ahead, num)]

    def take(self, num: int) -> list[dict[str, jax.Array]]:
        """The next `num` batches: all of them, or none where one cannot be read."""
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
