"""Samples over a whole split: the same every time, without favourites, parts of one another."""

import numpy as np
import pytest

from vdm.data import Arrays, evaluation_batches, selected
from vdm.data.selection import order


def test_it_is_increasing_without_repeats_and_all_where_no_fewer_are_asked_for() -> None:
    for num in (1, 7, 99):
        found = selected(100, num)
        assert len(found) == num
        assert np.all(np.diff(found) > 0)
        assert set(found) <= set(range(100))
        np.testing.assert_array_equal(found, selected(100, num))
    for num in (0, 100, 101):
        np.testing.assert_array_equal(selected(100, num), np.arange(100))
    with pytest.raises(ValueError, match="num=-1: must be 0"):
        selected(100, -1)


def test_samples_are_parts_of_larger_ones() -> None:
    np.testing.assert_array_equal(np.sort(order(100)), np.arange(100))
    for num in (3, 20):
        assert set(selected(100, num)) == set(order(100)[:num]) < set(selected(100, 2 * num))


@pytest.mark.parametrize("total", [1000, 9159, 60_000])
def test_it_is_spread_over_the_split(total: int) -> None:
    """Of ten equal parts of it each has its share, to four standard errors of random samples."""
    found = selected(total, 500)
    counts = np.histogram(found, bins=10, range=(0, total))[0]
    np.testing.assert_allclose(counts, 50, atol=4 * np.sqrt(50 * 0.9))


def test_batches_have_the_chosen_ones() -> None:
    """Batches over two processes, with padding, and each element's place in the source."""
    source = Arrays({"image": np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)})
    halves = [list(evaluation_batches(source, 4, process_index=p, process_count=2, max_images=7)) for p in range(2)]
    rows = [batch for both in zip(*halves, strict=True) for batch in both]
    index, mask = (np.concatenate([batch[name] for batch in rows]) for name in ("index", "mask"))
    np.testing.assert_array_equal(index[mask], selected(50, 7))
    np.testing.assert_array_equal(index[~mask], [-1])
    images = np.concatenate([batch["image"] for batch in rows]).ravel()
    np.testing.assert_array_equal(images[mask], selected(50, 7))
