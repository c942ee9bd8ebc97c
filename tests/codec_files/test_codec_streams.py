"""Several workers: results in order, the same however many there are; one failure ends all."""

import threading
import time

import numpy as np
import pytest
import tiny_codec

from vdm.codec.coding import encode_chunk
from vdm.codec.streams import in_order


@pytest.mark.parametrize("num", [1, 2, 5])
def test_results_are_in_order_and_each_worker_has_one_item(num):
    busy = {name: threading.Lock() for name in range(num)}

    def work(name: int, item: int) -> int:
        assert busy[name].acquire(blocking=False)
        time.sleep(0.001 * (7 * item % 5))
        busy[name].release()
        return item**2

    assert list(in_order(work, list(busy), range(20))) == [item**2 for item in range(20)]


def test_items_are_taken_as_there_is_use_for_them():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_order(lambda worker, item: item, ["a", "b"], items())
    for k in range(10):
        assert next(results) == k
        assert len(taken) <= k + 1 + 4


def test_the_first_failure_ends_all():
    done = []

    def work(worker: str, item: int) -> int:
        if item == 3:
            raise ValueError("of item 3")
        done.append(item)
        return item

    results = in_order(work, ["a", "b"], range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="of item 3"):
        next(results)
    assert max(done) < 10


def test_chunks_do_not_depend_on_the_number_of_coders():
    images = tiny_codec.images(24)
    found = []
    for num in (1, 3):
        chains = [tiny_codec.new_chain() for _ in range(num)]
        parts = np.split(images, 6)
        found.append([coded.payload for coded, _ in in_order(encode_chunk, chains, parts)])
    assert found[0] == found[1]
