"""The next batch goes to the devices while they are busy with the step before."""

from typing import Any

import grain
import jax
from jax.sharding import Mesh

from vdm import parallel
from vdm.errors import WorkerDied


class Prefetched(grain.DatasetIterator):
    """The batches of `iterator` as global arrays over the mesh, the next of them put there ahead of time.

    Steps are dispatched without waiting for them, and transfers are asynchronous, so one thread is enough: call
    `prefetch` after a step is dispatched. The state is that of the batches taken, whatever was read ahead: what a
    checkpoint saves. What goes wrong in reading ahead is raised when the batch is asked for: the step before is whole.
    """

    def __init__(self, iterator: grain.DatasetIterator, mesh: Mesh):
        super().__init__()
        self._iterator, self._mesh = iterator, mesh
        self._ahead: dict[str, jax.Array] | None = None
        self._error: WorkerDied | None = None
        self._state = iterator.get_state()

    def prefetch(self) -> None:
        """Reads the next batch and starts its transfer, unless it is there."""
        if self._ahead is None and self._error is None:
            try:
                self._ahead = parallel.shard_batch(next(self._iterator), self._mesh)
            except WorkerDied as error:
                self._error = error

    def peek(self) -> dict[str, jax.Array]:
        """The next batch, which is not taken."""
        self.prefetch()
        if self._error is not None:
            raise self._error
        assert self._ahead is not None
        return self._ahead

    def __next__(self) -> dict[str, jax.Array]:
        batch, self._ahead = self.peek(), None
        self._state = self._iterator.get_state()
        return batch

    def get_state(self) -> Any:
        return self._state

    def set_state(self, state: Any) -> None:
        self._iterator.set_state(state)
        self._state, self._ahead, self._error = state, None, None

    def close(self) -> None:
        super().close()
        self._iterator.close()
