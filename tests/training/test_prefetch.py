"""Batches ahead of the steps: the same ones, and a state that knows nothing of what was read ahead."""

import numpy as np
import pytest

from vdm import parallel
from vdm.data import Dataset, in_memory, train_iterator
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
