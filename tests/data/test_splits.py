"""Which examples are of the test split: properties of the hash, and the names that splits have."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm.data.splits import hashed_split, is_like_a_split, named_splits
from vdm.errors import InputError

KEYS = st.lists(st.binary(max_size=4), min_size=2, max_size=40).filter(lambda keys: len(set(keys)) > 1)


@settings(deadline=None)
@given(KEYS)
def test_each_is_of_one_split_none_is_empty_and_equal_keys_share_theirs(keys):
    train, test = hashed_split(keys)
    assert sorted(train + test) == list(range(len(keys)))
    assert train
    assert test
    assert not {keys[k] for k in train} & {keys[k] for k in test}


@settings(deadline=None)
@given(st.permutations([str(k).encode() for k in range(40)]), st.integers(0, 20))
def test_neither_order_nor_what_is_added_changes_anothers_split(keys, num):
    """Forty keys of which some are of the test split by their own hash."""
    first, more = set(keys), [f"more {k}".encode() for k in range(num)]
    before = {keys[k] for k in hashed_split(keys)[1]}
    both = keys + more
    assert {both[k] for k in hashed_split(both)[1]} & first == before


def test_about_a_tenth_is_of_the_test_split():
    _, test = hashed_split([f"{k}.png".encode() for k in range(40_000)])
    # 4000 within four standard deviations, 60 each.
    assert abs(len(test) - 4000) < 240


@pytest.mark.parametrize("keys", [[], [b"a"], [b"a", b"a"]])
def test_less_than_two_kinds_cannot_be_split(keys):
    with pytest.raises(InputError, match=f"{min(len(keys), 1)} group; at least 2"):
        hashed_split(keys, of="group")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train", "test"], ("train", "test")),
        (["Train", "VAL"], ("Train", "VAL")),
        (["valid", "training"], ("training", "valid")),
        (["dev", "train", "validation"], ("train", "validation")),
        (["val", "test", "train", "extra"], ("train", "test")),
        (["train"], None),
        (["test", "val"], None),
        (["train2017", "val2017"], None),
        (["cats", "dogs"], None),
    ],
)
def test_named_splits(names, splits):
    assert named_splits(names) == splits


@pytest.mark.parametrize("names", [["train", "Train", "test"], ["train", "training", "test"], ["train", "Val", "val"]])
def test_two_of_a_name_are_refused(names):
    with pytest.raises(InputError, match="the same split"):
        named_splits(names)


@pytest.mark.parametrize(
    "name", ["train", "Test", "VAL", "train2017", "my-test", "ValImages", "DIV2K_train_HR", "x.dev"]
)
def test_what_is_like_a_split(name):
    assert is_like_a_split(name)


@pytest.mark.parametrize("name", ["trains", "latest", "devices", "cats", "evaluate", "0", "", "contest", "valley"])
def test_what_is_not(name):
    assert not is_like_a_split(name)
