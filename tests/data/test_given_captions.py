"""Captions of a user's own data: arrays, npz files, folders, TFDS features; and what is wrong with them."""

import json
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from own_files import images, refusal, write_grey

from vdm.config import Config, DataConfig, NetworkConfig
from vdm.data import Dataset, in_memory, load, resolve
from vdm.data.texts import captions_in, encoded
from vdm.errors import InputError


def captions(dataset: Dataset) -> list[list[tuple[str, ...]]]:
    """Of both splits, as they were before they were encoded."""
    return [[*captions_in(source.source.source)] for source in (dataset.train, dataset.test)]


def wants_text(dataset: Dataset) -> Config:
    return resolve(Config(network=NetworkConfig(condition=("text",))), dataset)


def write_npz(tmp_path, **arrays) -> str:
    np.savez(tmp_path / "data.npz", **arrays)
    return f"npz:{tmp_path / 'data.npz'}"


# In memory.


@pytest.mark.parametrize(
    "given",
    [
        ["a cat", "a dog"],
        np.array(["a cat", "a dog"]),
        np.array(["a cat", "a dog"], object),
        [("a cat",), ["a dog"]],
        np.array([["a cat", ""], ["a dog", ""]]),
    ],
    ids=["list", "array", "objects", "lists", "padded"],
)
def test_captions_in_memory(given):
    split = {"image": images(2), "text": given}
    dataset = in_memory(train=split, test=split)
    assert [dataset.train[k]["text"] for k in range(2)] == [("a cat",), ("a dog",)]


def test_captions_change_the_version():
    def version(*texts: str) -> str:
        split = {"image": images(2), "text": texts}
        return in_memory(train=split, test=split).info.version

    assert version("a", "b") == version("a", "b")
    assert len({version("a", "b"), version("b", "a"), version("a", "c")}) == 3


def test_tokens_of_ones_own_stay_numbers():
    split = {"image": images(2), "text": np.array([[1, 2, 0], [3, 0, 0]])}
    dataset = in_memory(train=split, test=split)
    assert dataset.train[0]["text"].tolist() == [1, 2, 0]
    assert wants_text(dataset).data.entries == ("text int32 3",)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["a cat"], "arrays differ in length: 'image' has 2, 'text' has 1"),
        (["a cat", "a dog", "a hen"], "'image' has 2, 'text' has 3"),
        (["a cat", " "], "'text': image 1 has an empty caption; must be a text"),
        ([("a cat",), ()], "'text': image 1 has none; must be a text"),
        (["a cat", None], "'text': that of image 1 is None; must be a text, or several"),
        ([None, "a cat"], "'text': that of image 0 is None; must be a text, or several"),
        (["a cat", 3], "'text': that of image 1 is 3; must be a text, or several"),
        (["a cat", b"dog"], "'text': that of image 1 is b'dog'; must be a text"),
        (np.array([b"cat", b"dog"]), "'text': that of image 0 is b'cat'; must be a text"),
        ([(), "a cat"], "'text': image 0 has none; must be a text"),
        ("ab", "'text': is 'ab', one text for all; must be a text, or several, for each image"),
        (np.array("ab"), "'text': is 'ab', one text for all"),
        (["a cat", "a \ud800"], "has half of a character"),
        (["a cat", "a" * 10_001], "has 10001 characters; must be at most 10000"),
    ],
)
def test_what_is_no_caption_is_refused(given, problem):
    split = {"image": images(2), "text": given}
    with pytest.raises(InputError, match="mine: train: ") as caught:
        in_memory(train=split, test=split, name="mine")
    assert problem in str(caught.value)


def test_images_without_captions_in_one_split_are_refused():
    dataset = in_memory({"image": images(2), "text": ["a", "b"]}, {"image": images(2)}, name="mine")
    with pytest.raises(InputError, match="data set 'mine': test element 0 has no caption"):
        encoded(dataset, "bytes")


# npz files.


def test_captions_of_an_npz_file(tmp_path):
    texts = np.array(["a cat", "a dog", "ein Käfer"])
    name = write_npz(tmp_path, train=images(3), test=images(2), train_text=texts, test_text=texts[1:])
    dataset = load(DataConfig(name=name))
    assert captions(dataset) == [[("a cat",), ("a dog",), ("ein Käfer",)], [("a dog",), ("ein Käfer",)]]
    assert not any("left out" in note for note in dataset.info.notes)
    assert wants_text(dataset).data.entries == ("text int32 64",)
    assert wants_text(dataset).data.vocabulary == 257


def test_several_captions_of_an_npz_file(tmp_path):
    texts = np.array([["a cat", "a grey cat"], ["a dog", ""]])
    dataset = load(DataConfig(name=write_npz(tmp_path, train=images(2), test=images(2), train_text=texts, val=images(1),
                                             test_text=texts)))  # fmt: skip
    assert captions(dataset)[0] == [("a cat", "a grey cat"), ("a dog",)]


def test_captions_beside_one_array_stay_with_their_images(tmp_path):
    pictures = images(60)
    texts = np.array([f"begins with {image[0, 0, 0]}" for image in pictures])
    dataset = load(DataConfig(name=write_npz(tmp_path, images=pictures, text=texts)))
    assert len(dataset.train) + len(dataset.test) == 60
    for source in (dataset.train, dataset.test):
        for index, (caption,) in enumerate(captions_in(source.source.source)):
            assert caption == f"begins with {source[index]['image'][0, 0, 0]}"


def test_captions_of_one_split_alone_are_said_and_asked_for_in_vain(tmp_path):
    name = write_npz(tmp_path, train=images(2), test=images(2), train_text=np.array(["a", "b"]))
    dataset = load(DataConfig(name=name))
    assert "no captions: array 'train_text' is there, 'test_text' is not" in dataset.info.notes
    with pytest.raises(InputError, match="besides images it has nothing; no captions: array 'train_text' is there"):
        wants_text(dataset)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"train_text": np.array(["a"])}, "train: arrays differ in length: 'image' has 2, 'text' has 1"),
        ({"train_text": np.array(["a", ""])}, "train: 'text': image 1 has an empty caption"),
        ({"train_text": np.array(["a", "b"], object)}, "array 'train_text': is of dtype object; must be numbers or"),
    ],
)
def test_wrong_captions_of_an_npz_file_are_refused(tmp_path, arrays, problem):
    good = {"train": images(2), "test": images(2), "test_text": np.array(["a", "b"])}
    refusal(write_npz(tmp_path, **good, **arrays), problem, "data.npz")


@pytest.mark.parametrize("texts", [np.array(["a"] * 19), np.arange(20)], ids=["too few", "numbers"])
def test_wrong_captions_beside_one_array_are_refused(tmp_path, texts):
    refusal(write_npz(tmp_path, images=images(20), text=texts), "array 'text'", "must be texts (20,) or (20, K)")


# Folders.


def write_captioned(root, folder: str = "", num: int = 4) -> str:
    """Pictures of value k, each with a file that says k."""
    name = write_grey(root, {f"{folder}{k}.png": 10 * k for k in range(num)})
    for k in range(num):
        (root / f"{folder}{k}.txt").write_text(f"grey {10 * k}\n")
    return name


@pytest.mark.parametrize("kept", [1 << 30, 0], ids=["in memory", "in files"])
def test_captions_beside_pictures(tmp_path, kept, monkeypatch):
    monkeypatch.setattr("vdm.data.folder.load_folder.__defaults__", (None, kept))
    write_captioned(tmp_path, "train/")
    name = write_captioned(tmp_path, "test/", 2)
    (tmp_path / "train/2.txt").write_text("grey 20\n\n  rather dark  \n")
    (tmp_path / "test/notes.txt").write_text("of nothing")
    dataset = load(DataConfig(name=name))
    assert captions(dataset)[0] == [("grey 0",), ("grey 10",), ("grey 20", "rather dark"), ("grey 30",)]
    assert dataset.train[1]["image"].max() == 10
    assert dataset.train.source.every(2).shape == (2, 64)
    assert "captions: a .txt file beside each picture" in dataset.info.notes
    assert "left out: of other types: 1 .txt" in dataset.info.notes


def test_a_caption_changes_the_version(tmp_path):
    name = write_captioned(tmp_path)
    before = load(DataConfig(name=name)).info.version
    assert load(DataConfig(name=name)).info.version == before
    (tmp_path / "2.txt").write_text("something else")
    assert load(DataConfig(name=name)).info.version != before


def test_text_files_of_some_pictures_are_left_out_as_ever(tmp_path):
    name = write_captioned(tmp_path)
    (tmp_path / "3.txt").unlink()
    dataset = load(DataConfig(name=name))
    assert set(dataset.train[0]) == {"image"}
    assert "no captions: 1 of 4 pictures have no .txt file beside them, such as 3.png" in dataset.info.notes
    assert any("left out: of other types: 3 .txt" in note for note in dataset.info.notes)
    with pytest.raises(InputError, match=r"as 3\.png"):
        wants_text(dataset)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"caf\xe9", "1.txt: is not UTF-8 text (byte 3)"),
        (b" \n\n", "1.txt: is empty; must be one or more captions, one per line"),
        (b"a" * 10_001, "1.txt: has 10001 characters; must be at most 10000"),
        (b"a " * (1 << 20), "1.txt: has more than 1048576 bytes"),
    ],
)
def test_a_text_file_that_is_no_caption_is_refused(tmp_path, content, problem):
    name = write_captioned(tmp_path)
    (tmp_path / "1.txt").write_bytes(content)
    refusal(name, problem)


def write_lines(root, *lines: object) -> str:
    name = write_grey(root, {"a/0.png": 0, "a/1.png": 10, "b/2.png": 20, "b/3.png": 30})
    (root / "captions.jsonl").write_text(
        "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    )
    return name


FOUR = [
    {"file": "b/3.png", "text": ["three", "3"]},
    {"file": "a/0.png", "text": "zero"},
    {"file": "a/1.png", "text": "eins"},
    {"file": "b/2.png", "text": "zwei", "licence": "mine"},
]


def test_captions_in_one_file(tmp_path):
    dataset = load(DataConfig(name=write_lines(tmp_path, *FOUR, "")))
    by_value = {0: ("zero",), 10: ("eins",), 20: ("zwei",), 30: ("three", "3")}
    for source in (dataset.train, dataset.test):
        for index, found in enumerate(captions_in(source.source.source)):
            assert found == by_value[int(source[index]["image"].max())]
    assert dataset.info.classes == ("a", "b")
    assert "captions: captions.jsonl" in dataset.info.notes
    assert not any("left out" in note for note in dataset.info.notes)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (FOUR[:3], "captions.jsonl: 1 of 4 pictures have no caption, such as b/2.png; all must have one"),
        (
            [*FOUR, {"file": "b/9.png", "text": "x"}],
            "line 5: no picture b/9.png in the folder; must be a path such as a/b.png",
        ),
        ([*FOUR, FOUR[0]], "line 5: b/3.png is listed twice; give several captions as a list"),
        ([{"file": "b/3.png", "text": ""}], "line 1: b/3.png has an empty caption; must be a text, or a list of texts"),
        ([{"file": "b/3.png", "text": []}], "line 1: b/3.png has an empty caption"),
        ([{"file": "b/3.png"}], "line 1: has no text"),
        ([{"file": "b/3.png", "text": 3}], "line 1: text=3: must be a string or a tuple, each a string"),
        ([*FOUR[:2], "{'file'"], "line 3: not valid JSON"),
        (["[]"], "line 1: found a list; must be a table"),
    ],
)
def test_what_is_wrong_in_the_one_file_is_said(tmp_path, lines, problem):
    refusal(write_lines(tmp_path, *lines), problem, "captions.jsonl")


def test_the_one_file_in_another_encoding_is_refused(tmp_path):
    name = write_lines(tmp_path, *FOUR)
    (tmp_path / "captions.jsonl").write_bytes(b'{"file": "a/0.png", "text": "caf\xe9"}')
    refusal(name, "captions.jsonl: line 1: not UTF-8 text: byte 32 is 0xe9")


# TFDS features.

SEVERAL = tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()})


class TinyCaptioned(tfds.core.GeneratorBasedBuilder):
    """Made as COCO's captions are: several of an image, each with its number."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: ClassVar = {"captions": SEVERAL, "text": tfds.features.Text()}

    def _info(self):
        image = tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8)
        features = tfds.features.FeaturesDict({"image": image} | self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train", 5), "test": self._generate_examples("test", 3)}

    def _generate_examples(self, split, num):
        for key in range(num):
            yield key, {"image": np.full((4, 4, 1), key, np.uint8)} | self.caption(split, key)

    def caption(self, split, key):
        several = [{"id": 7, "text": f"{split} {key}"}, {"id": 8, "text": f"é {key}"}]
        return {"captions": several[: 1 + key % 2], "text": "of other things"}


class TinyOneCaption(TinyCaptioned):
    FEATURES: ClassVar = {"caption": tfds.features.Text()}

    def caption(self, split, key):
        return {"caption": f"{split} {key}"}


class TinyHiddenCaptions(TinyOneCaption):
    """As tests of a competition."""

    def caption(self, split, key):
        return {"caption": f"{split} {key}" if split == "train" else ""}


class TinyLatin(TinyOneCaption):
    def caption(self, split, key):
        return {"caption": b"caf\xe9" if (split, key) == ("train", 3) else b"cafe"}


def prepared(tmp_path, builder) -> DataConfig:
    builder(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    return DataConfig(name=builder.name, data_dir=str(tmp_path))


def test_several_captions_of_tfds(tmp_path):
    dataset = load(prepared(tmp_path, TinyCaptioned))
    train, test = captions(dataset)
    assert train == [("train 0",), ("train 1", "é 1"), ("train 2",), ("train 3", "é 3"), ("train 4",)]
    assert test == [("test 0",), ("test 1", "é 1"), ("test 2",)]
    assert dataset.train[3]["image"].max() == 3
    assert dataset.train.source.source[3]["text"] == ("train 3", "é 3")
    assert set(dataset.train[0]) == {"image", "text"}


def test_one_caption_of_tfds(tmp_path):
    assert captions(load(prepared(tmp_path, TinyOneCaption)))[1] == [("test 0",), ("test 1",), ("test 2",)]


def test_captions_that_were_not_published_are_none(tmp_path):
    dataset = load(prepared(tmp_path, TinyHiddenCaptions))
    assert set(dataset.train[0]) == {"image"}
    assert dataset.info.notes == ("no captions: split test was published without them",)


def test_captions_of_tfds_that_are_no_text_are_refused(tmp_path):
    config = prepared(tmp_path, TinyLatin)
    refusal(config.name, "train element 3: caption is not valid UTF-8", data_dir=config.data_dir)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["captions.jsonl", "1.txt"]))
def test_any_bytes_are_captions_or_one_line(content, name):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_captioned(root, num=2)
        (root / name).write_bytes(content)
        problem = ""
        try:
            load(DataConfig(name=data))
        except InputError as error:
            problem = str(error)
        assert not problem or (name in problem and "\n" not in problem)
