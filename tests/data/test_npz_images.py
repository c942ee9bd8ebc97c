"""npz files of images: what is read and how it is split, and what is refused in one line that says what to do."""

import numpy as np
import pytest
from own_files import images, pixels, refusal

from vdm.config import DataConfig
from vdm.data import Dataset, examples, load


def write_npz(tmp_path, **arrays) -> str:
    np.savez(tmp_path / "data.npz", **arrays)
    return f"npz:{tmp_path / 'data.npz'}"


def open_npz(tmp_path, levels: int | None = None, **arrays) -> Dataset:
    return load(DataConfig(name=write_npz(tmp_path, **arrays), levels=levels))


def rows(source) -> set[bytes]:
    return {image.tobytes() for image in pixels(source)}


def test_two_arrays_and_what_is_left_out(tmp_path):
    train, test = images(9), images(4)[::-1]
    dataset = open_npz(tmp_path, train=train, test=test, labels=np.array([{}]), train_x=np.zeros(9))
    np.testing.assert_array_equal(pixels(dataset.train), train)
    np.testing.assert_array_equal(pixels(dataset.test), test)
    assert dataset.train[0]["image"].dtype == np.uint8
    assert (dataset.info.shape, dataset.info.levels) == ((4, 5, 3), 256)
    assert (dataset.info.num_train, dataset.info.num_test) == (9, 4)
    assert dataset.info.notes == (
        "training images: array train; test images: array test",
        "left out: the arrays labels, train_x",
    )


def test_which_images_of_a_compressed_file_these_are_is_left_out(tmp_path):
    dataset = open_npz(tmp_path, images=images(100), number=np.arange(5, 105))
    assert set(dataset.train[0]) == {"image"}
    assert "left out: the arrays number" in dataset.info.notes


def test_val_is_the_test_split_only_where_there_is_no_test(tmp_path):
    a, b, c = images(9), images(5), images(3)
    dataset = open_npz(tmp_path, val=b, train=a)
    assert (dataset.info.num_test, dataset.info.test_split) == (5, "array val")
    dataset = open_npz(tmp_path, val=b, train=a, test=c)
    assert (dataset.info.num_test, dataset.info.test_split) == (3, "array test")
    assert "left out: the arrays val" in dataset.info.notes


def test_each_image_of_one_array_keeps_its_split_as_more_are_added(tmp_path):
    array = images(200, (4, 4)).astype(np.int64)
    few, many = (open_npz(tmp_path, anything=array[:num]) for num in (150, 200))
    assert few.info.num_train + few.info.num_test == 150
    assert rows(many.train) | rows(many.test) == {image.tobytes() for image in array.astype(np.uint8)}
    assert not rows(many.train) & rows(many.test)
    assert rows(few.train) < rows(many.train)
    assert rows(few.test) < rows(many.test)
    # Ten standard deviations of a binomial would be 42.
    assert 2 <= many.info.num_test <= 60
    assert many.info.shape == (4, 4, 1)
    assert "hash" in many.info.test_split


@pytest.mark.parametrize("num", [2, 3, 5])
def test_there_is_an_image_in_each_split(tmp_path, num):
    info = open_npz(tmp_path, a=images(num)).info
    assert info.num_train >= 1
    assert info.num_test >= 1


def test_sorted_classes_are_in_both_splits(tmp_path):
    """Where the last tenth was taken, it was of one class."""
    dataset = open_npz(tmp_path, image=images(300), label=np.repeat(np.arange(3), 100))
    assert dataset.info.classes == ("0", "1", "2")
    for source in (dataset.train, dataset.test):
        assert set(examples(source, range(len(source)))["label"]) == {0, 1, 2}


def test_a_group_stays_together(tmp_path):
    array, group = images(120), np.arange(120) // 6
    dataset = open_npz(tmp_path, image=array, group=group)
    train, test = (examples(source, range(len(source))) for source in (dataset.train, dataset.test))
    assert set(train["group"]) | set(test["group"]) == set(range(20))
    assert not set(train["group"]) & set(test["group"])
    for batch in (train, test):
        for image, of in zip(batch["image"], batch["group"], strict=True):
            assert any(np.array_equal(image, other) for other in array[group == of])
    assert "1 group;" in refusal(write_npz(tmp_path, image=array, group=0 * group))


def test_arrays_named_for_a_split_are_entries(tmp_path):
    arrays = {"train": images(6), "train_label": np.arange(6) % 3, "train_tokens": np.arange(12).reshape(6, 2)}
    arrays |= {"train_image": np.zeros(6), "test_image": np.zeros(2)}  # the images are `train` and `test`
    arrays |= {"test": images(2), "test_label": np.array([2, 0]), "test_tokens": np.array([[1, 2], [3, 4]])}
    dataset = open_npz(tmp_path, **arrays)
    assert set(dataset.train[0]) == {"image", "label", "tokens"}
    np.testing.assert_array_equal(dataset.train[5]["tokens"], [10, 11])
    np.testing.assert_array_equal(examples(dataset.test, [0, 1])["label"], [2, 0])
    assert dataset.info.classes == ("0", "1", "2")


def test_labels_may_have_names(tmp_path):
    arrays = {"train": images(6), "train_label": np.arange(6) % 3, "test": images(2), "test_label": np.array([2, 0])}
    assert open_npz(tmp_path, **arrays, classes=np.array(["cat", "dog", "hen"])).info.classes == ("cat", "dog", "hen")
    assert open_npz(tmp_path, a=images(20), label=np.arange(20) % 2, classes=np.array(["a", "b"])).info.classes == (
        "a",
        "b",
    )
    for classes, words in (
        (["cat", "dog"], "'label': values from 0 to 2, outside 0 to 1"),
        (["cat", "dog", "cat"], "array 'classes': has 'cat' twice; must be different texts, one for each class"),
        ([["cat", "dog", "hen"]], "array 'classes': <U3 (1, 3); must be texts (classes,)"),
        ([0, 1, 2], "array 'classes': is of dtype int64; must be texts"),
    ):
        assert words in refusal(write_npz(tmp_path, **arrays, classes=np.array(classes)))
    without = {name: array for name, array in arrays.items() if "label" not in name}
    assert "left out: the arrays classes" in open_npz(tmp_path, **without, classes=np.array(["cat"])).info.notes


def test_labels_of_one_split_alone_are_none_and_said_to_be(tmp_path):
    for there, missing in (("train", "test"), ("test", "train")):
        arrays = {"train": images(6), "test": images(6), f"{there}_label": np.arange(6)}
        dataset = open_npz(tmp_path, **arrays)
        assert set(dataset.train[0]) == {"image"}
        assert f"no labels: array '{there}_label' is there, '{missing}_label' is not" in dataset.info.notes


def test_version_follows_the_bytes(tmp_path):
    versions = [open_npz(tmp_path, a=images(num)).info.version for num in (5, 5, 6)]
    assert versions[0] == versions[1] != versions[2]


def test_levels(tmp_path):
    name = write_npz(tmp_path, a=images(high=17))
    assert load(DataConfig(name=name, levels=17)).info.levels == 17
    dataset = load(DataConfig(name=name))
    assert dataset.info.levels == 256
    assert "no value is above 16: if there are 17 levels" in dataset.info.notes[-1]
    refusal(name, "0 to 16", "levels=16", "--config.data.levels=None", levels=16)
    refusal(write_npz(tmp_path, a=images() / 255), "np.rint(16 * x)", levels=17)
    refusal(name, "data.levels=300: ", levels=300)
    refusal(name, "data.levels=1: ", levels=1)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": images() / 255}, ["'a'", "float64", "np.rint(255 * x)"]),
        ({"a": (images() / 127.5 - 1).astype(np.float32)}, ["'a'", "float32", "np.rint(127.5 * (x + 1))"]),
        ({"a": images().astype(np.float32)}, ["'a'", "float32", "astype('int32')"]),
        ({"a": images() * np.nan}, ["'a'", "float64"]),
        ({"a": images() > 3}, ["'a'", "bool", "2 levels"]),
        ({"a": images().astype("S3")}, ["'a'", "numbers"]),
        ({"a": np.array(3)}, ["'a'", "()"]),
        ({"train": images(), "test": np.array(3)}, ["'test'", "()"]),
        ({"a": images(shape=(784,))}, ["'a'", "(21, 784)", "reshape(-1, 28, 28, 1)"]),
        ({"a": images(shape=(3072,))}, ["'a'", "(21, 3072)", "reshape(-1, 32, 32, 3)"]),
        ({"a": images(shape=(4,))}, ["'a'", "(21, 4)"]),
        ({"a": images(shape=(3, 8, 8))}, ["'a'", "(21, 3, 8, 8)", "transpose(0, 2, 3, 1)"]),
        ({"a": images(32, (32, 3))}, ["'a'", "(32, 32, 3)", "one image"]),
        ({"a": images(2, (2, 8, 8, 3))}, ["'a'", "(2, 2, 8, 8, 3)"]),
        ({"a": images().astype(np.int32) - 1}, ["'a'", "-1 to", "levels=256"]),
        ({"a": images().astype(np.int32) + 1}, ["'a'", "to 256", "levels=256"]),
        ({"a": images(1)}, ["1 image"]),
        ({"a": images(0)}, ["'a'", "(0, 4, 5, 3)"]),
        ({"a": images(shape=(4, 0, 3))}, ["'a'", "(21, 4, 0, 3)"]),
        ({"train": images(), "test": images(0)}, ["'test'", "(0, 4, 5, 3)"]),
        ({"train": images(), "test": images(shape=(4, 4, 3))}, ["(4, 5, 3)", "(4, 4, 3)"]),
        ({"train": images(), "labels": images()}, ["labels, train", "'test'"]),
        ({"train": images(), "Train": images(), "test": images()}, ["'train' and 'Train'"]),
        ({"a": images(), "label": np.arange(20)}, ["'label'", "(20,)", "(21,)"]),
        ({"a": images(), "label": np.zeros((21, 1), int)}, ["'label'", "(21, 1)"]),
        ({"a": images(), "label": np.zeros(21)}, ["'label'", "float64"]),
        ({"a": images(), "group": np.zeros((21, 1), int)}, ["'group'", "(21, 1)"]),
        ({"a": images(), "group": np.zeros(21)}, ["'group'", "float64"]),
        ({"train": images(), "test": images(), "train_group": np.arange(21), "test_group": np.arange(3)}, ["'group'"]),
        ({"train": images(), "test": images(), "train_mask": np.arange(21), "test_mask": np.arange(21)}, ["'mask'"]),
        ({}, ["none", "'test'"]),
    ],
)
def test_refusals(tmp_path, arrays, words):
    name = write_npz(tmp_path, **arrays)
    refusal(name, name, *words)


def test_files_that_are_none(tmp_path):
    """Of `vdm.npz`, with the name that the user gave."""
    refusal(f"npz:{tmp_path / 'missing.npz'}", f"npz:{tmp_path / 'missing.npz'}: no such file")
    refusal(f"npz:{tmp_path}", "not a file")
    refusal("npz:", "names no path")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "objects.npz", a=np.array([{}]))
    for file in ("text.npz", "objects.npz"):
        assert refusal(f"npz:{tmp_path / file}").count(str(tmp_path)) == 1
