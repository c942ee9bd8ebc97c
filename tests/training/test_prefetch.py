"""Batches ahead of the steps: the same ones, and a state that knows nothing of what was read ahead."""

from typing import Any

import numpy as np
import pytest

from vdm import parallel
from vdm.data import Dataset, in_memory, train_iterator
from vdm.errors import WorkerDied
from vdm.training.prefetch import Prefetched


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    images = np.arange(24 * 4, dtype=np.uint8).reshape(24, 2, 2, 1)
    split = {"image": images, "label": np.arange(24) % 5}
    return in_memory(split, split)


def start(dataset: Dataset) -> Prefetched:
    return Prefetched(train_iterator(dataset, batch_size=8, seed=3), parallel.make_mesh(8))


def test_the_state_is_that_of_the_batches_taken(dataset: Dataset) -> None:
    plain, ahead = train_iterator(dataset, batch_size=8, seed=3), start(dataset)
    for n in range(4):
        assert ahead.get_state() == plain.get_state() == {"next_index": n}
        if n != 2:
            ahead.prefetch()
            ahead.prefetch()
            assert ahead.get_state() == {"next_index": n}
        batch = next(ahead)
        assert batch["image"].sharding == parallel.batch_sharding(parallel.make_mesh(8))
        np.testing.assert_array_equal(batch["image"], next(plain)["image"])


def test_a_restored_state_forgets_what_was_read_ahead(dataset: Dataset) -> None:
    first = start(dataset)
    batches = [np.asarray(next(first)["image"]) for _ in range(4)]
    first.prefetch()
    again = start(dataset)
    again.prefetch()
    again.set_state({"next_index": 2})
    assert again.get_state() == {"next_index": 2}
    for expected in batches[2:]:
        np.testing.assert_array_equal(next(again)["image"], expected)
    assert again.get_state() == first.get_state()


def test_several_batches_at_a_time(dataset: Dataset) -> None:
    """Those that are there first; the state is that of the batches taken, also with more ahead than are taken."""
    plain, ahead = train_iterator(dataset, batch_size=8, seed=3), start(dataset)
    ahead.prefetch(3)
    taken = ahead.take(2)
    assert ahead.get_state() == {"next_index": 2}
    peeked = ahead.peek(2)
    taken += ahead.take(2)
    assert taken[2]["image"] is peeked[0]["image"]
    for batch in taken:
        np.testing.assert_array_equal(batch["image"], next(plain)["image"])
    assert ahead.get_state() == plain.get_state()


def test_where_one_of_several_cannot_be_read_none_is_taken(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = start(dataset)
    read = type(ahead._iterator).__next__

    def die(self: Any) -> Any:
        if self.get_state() == {"next_index": 2}:
            raise WorkerDied("killed")
        return read(self)

    monkeypatch.setattr(type(ahead._iterator), "__next__", die)
    with pytest.raises(WorkerDied):
        ahead.take(3)
    assert ahead.get_state() == {"next_index": 0}
    assert len(ahead.take(2)) == 2
