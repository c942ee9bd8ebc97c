"""A user's own data: arrays in memory and lists of dicts, and what is refused of them in one line."""

import json
from typing import Any

import numpy as np
import pytest

from vdm.data import Dataset, DatasetInfo, examples, in_memory, train_iterator
from vdm.data.dataset import described
from vdm.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 17, (6, 4, 5, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 1, 0, 2])


def split(rows: slice = slice(None), **changes: Any) -> dict[str, Any]:
    arrays = {"image": IMAGES[rows], "label": LABELS[rows]} | changes
    return {name: array for name, array in arrays.items() if array is not None}


def elements(**changes: Any) -> list[Any]:
    whole = split(**changes)
    return [{name: array[k] for name, array in whole.items()} for k in range(6)]


def info(**changes: Any) -> DatasetInfo:
    fields = {"name": "mine", "version": "1", "shape": (4, 5, 3), "levels": 17, "num_train": 6, "num_test": 6}
    rest = {"train_split": "", "test_split": "", "preprocessing": "", "classes": ("a", "b", "c")}
    return DatasetInfo(**(fields | rest | changes))


def test_arrays_are_a_data_set() -> None:
    dataset = in_memory(split(slice(4)), split(slice(4, 6)), levels=17, name="mine", classes=["a", "b", "c"])
    assert (len(dataset.train), len(dataset.test)) == (dataset.info.num_train, dataset.info.num_test) == (4, 2)
    batch = examples(dataset.train, [3, 0])
    np.testing.assert_array_equal(batch["image"], IMAGES[[3, 0]])
    assert (batch["label"].tolist(), batch["label"].dtype) == ([1, 2], np.int32)
    record = json.loads(json.dumps(dataset.info.to_dict()))
    assert (record["shape"], record["levels"], record["classes"]) == ([4, 5, 3], 17, ["a", "b", "c"])
    assert next(train_iterator(dataset, batch_size=2, seed=0)).keys() == {"image", "label"}


def test_arrays_of_other_types_and_ranks() -> None:
    grey = IMAGES[..., 0].astype(np.int64)
    dataset = in_memory({"image": grey, "weight": np.ones((6, 2))}, {"image": grey, "weight": np.ones((6, 2))})
    batch = examples(dataset.test, range(6))
    assert (batch["image"].shape, batch["image"].dtype) == ((6, 4, 5, 1), np.uint8)
    assert (batch["weight"].shape, batch["weight"].dtype) == ((6, 2), np.float32)
    assert dataset.info.classes is None


def test_classes_are_numbered_where_they_have_no_names() -> None:
    assert in_memory(split(), split()).info.classes == ("0", "1", "2")


def test_the_version_follows_all_arrays() -> None:
    def version(**changes: Any) -> str:
        return in_memory(split(**changes), split()).info.version

    others = [version(label=1 - LABELS % 2), version(image=IMAGES[::-1]), version(label=None)]
    assert version() == version()
    assert len({version(), *others}) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None}, "train: no array 'image' among 'label'"),
        ({"label": LABELS[:5]}, "train: arrays differ in length: 'image' has 6, 'label' has 5"),
        ({"label": 3}, "train: arrays differ in length: 'image' has 6, 'label' has 0"),
        ({"image": IMAGES / 255}, "train 'image': dtype float64"),
        ({"image": IMAGES[:, 0, 0]}, r"train 'image': shape \(6, 3\)"),
        ({"image": IMAGES + 1}, "train 'image': values from 1 to 17, outside 0 to 16"),
        ({"image": IMAGES[:, :3]}, r"images of train are \(3, 5, 3\), those of test \(4, 5, 3\)"),
        ({"label": LABELS + 1}, "train 'label': values from 1 to 3, outside 0 to 2"),
        ({"label": LABELS - 1}, "train 'label': values from -1 to 1, outside 0 to 2"),
        ({"label": LABELS / 2}, r"train 'label': float64 \(6,\); must be integers"),
        ({"name": np.array(list("abcdef"))}, "train element 0 has 'name' of dtype <U1; must be numbers"),
        ({"index": LABELS}, "train element 0 has an entry 'index'; reserved for evaluation are mask, index, offset"),
    ],
)
def test_refusals_of_arrays(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"mine'?: {words}") as error:
        in_memory(split(**changes), split(), levels=17, name="mine", classes="abc")
    assert "\n" not in str(error.value)


def test_numbers_that_are_no_classes_are_not_counted_up_to() -> None:
    with pytest.raises(InputError, match="mine: 'label': values up to 1099511627778; must be below 65536"):
        in_memory(split(label=LABELS + 2**40), split(), levels=17, name="mine")
    missing = split(label=np.full(6, -1))
    with pytest.raises(InputError, match="mine: train 'label': values from -1 to -1; must be class numbers"):
        in_memory(missing, missing, levels=17, name="mine")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64"])
def test_labels_of_all_integers_are_of_one_type(dtype: str) -> None:
    given = split(label=LABELS.astype(dtype))
    dataset = in_memory(given, given, levels=17)
    assert described(dataset, ["label"]) == ("label int32",)
    np.testing.assert_array_equal(examples(dataset.test, range(6))["label"], LABELS)
    assert given["label"].dtype == dtype


def test_any_indexable_of_dicts_is_a_source() -> None:
    dataset = Dataset(info(), elements(), elements())
    np.testing.assert_array_equal(examples(dataset.train, range(6))["image"], IMAGES)
    batch = next(train_iterator(dataset, batch_size=6, seed=0, num_workers=1))
    assert sorted(batch["label"].tolist()) == sorted(LABELS.tolist())


@pytest.mark.parametrize(
    ("element", "words"),
    [
        (IMAGES[0], "is of type ndarray; must be a dict with 'image'"),
        ({"label": 1}, "has no 'image'; its entries are 'label'"),
        ({"image": IMAGES[0] / 255, "label": 1}, r"has an image of float64 \(4, 5, 3\); must be uint8 \(4, 5, 3\)"),
        ({"image": IMAGES[0, 1:], "label": 1}, r"has an image of uint8 \(3, 5, 3\); must be uint8 \(4, 5, 3\)"),
        ({"image": np.full_like(IMAGES[0], 17), "label": 1}, "has a pixel of 17, outside 0 to 16"),
        ({"image": IMAGES[0], "label": 3}, "has label 3; must be an integer from 0 to 2"),
        ({"image": IMAGES[0], "label": -1}, "has label -1; must be an integer from 0 to 2"),
        ({"image": IMAGES[0], "label": 0.5}, "has label 0.5; must be an integer from 0 to 2"),
        # In the 32 bits of batches all multiples of 2³² would be group 0.
        ({"image": IMAGES[0], "group": 2**32}, "has group 4294967296; must be a 32-bit integer"),
        ({"image": IMAGES[0], "label": "b"}, "has 'label' of dtype <U1; must be numbers"),
    ],
)
def test_refusals_of_elements(element: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"^data set 'mine': test element 0 {words}"):
        Dataset(info(), elements(), [element] * 6)
    later = Dataset(info(), elements(), [*elements()[:5], element])
    with pytest.raises(InputError, match=f"^data set 'mine': test element 5 {words}"):
        examples(later.test, range(6))


def test_elements_must_be_alike() -> None:
    dataset = Dataset(info(), [*elements()[:5], {"image": IMAGES[5]}], elements())
    with pytest.raises(InputError, match=r"element 5 has 'image' \(4, 5, 3\); the first one has .* 'label' \(\)"):
        next(train_iterator(dataset, batch_size=6, seed=0))


def test_the_record_must_have_the_length() -> None:
    with pytest.raises(InputError, match="train has 6 images, info says 7"):
        Dataset(info(num_train=7), elements(), elements())


VECTORS = RNG.normal(size=(6, 2)).astype(np.float32)


def test_real_vectors_are_a_data_set() -> None:
    dataset = in_memory({"image": VECTORS.astype(np.float64)}, {"image": VECTORS[:2]}, levels=0, name="mine")
    assert (dataset.info.shape, dataset.info.levels, dataset.info.values) == ((2,), 0, "real numbers")
    batch = examples(dataset.train, range(6))["image"]
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, VECTORS)
    images = in_memory({"image": np.zeros((3, 4, 5, 1))}, {"image": np.zeros((3, 4, 5, 1))}, levels=0)
    assert images.info.shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(12).reshape(6, 2), "dtype int64; must be real numbers, float32"),
        (np.where(np.arange(12).reshape(6, 2) == 7, np.nan, 1.0), "1 of 6 have values that are not finite; .* is 3"),
        # Not in float32.
        (np.full((6, 2), 1e300), "6 of 6 have values that are not finite"),
        (np.zeros(6), r"shape \(6,\); must be \(N, features\)"),
        (np.zeros((6, 0)), r"shape \(6, 0\)"),
    ],
)
def test_what_are_no_real_vectors(array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=f"mine: test 'image': {message}"):
        in_memory({"image": VECTORS}, {"image": array}, levels=0, name="mine")


def test_vectors_of_a_source_of_ones_own_are_checked_as_they_are_read() -> None:
    real = {"shape": (2,), "levels": 0, "classes": None}
    good = [{"image": vector} for vector in VECTORS]
    dataset = Dataset(info(**real), [*good[:5], {"image": np.array([0, np.inf], np.float32)}], good)
    with pytest.raises(InputError, match="train element 5 has a value that is not finite"):
        examples(dataset.train, range(6))
    with pytest.raises(InputError, match=r"has an image of float64 \(2,\); must be float32 \(2,\)"):
        Dataset(info(**real), [{"image": vector.astype(np.float64)} for vector in VECTORS], good)
    with pytest.raises(InputError, match=r"has an image of uint8 \(2,\); must be float32 \(2,\)"):
        Dataset(info(**real), [{"image": np.zeros(2, np.uint8)}] * 6, good)
