"""TFDS data: our own builders, data sets found by name, and what cannot be had; all without TensorFlow."""

import hashlib
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vdm.config import DataConfig
from vdm.data import Dataset, DatasetInfo, evaluation_batches, examples, load, prepared, train_iterator
from vdm.data.builders import photos32 as photos32_builder
from vdm.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Made as the public data sets are: PNG images with labels."""

    VERSION = tfds.core.Version("3.1.4")
    SPLITS: ClassVar = {"train": slice(0, 5), "validation": slice(5, 8)}
    SHAPE = (6, 6, 3)

    def _info(self):
        features = {"image": tfds.features.Image(shape=self.SHAPE), "label": tfds.features.ClassLabel(num_classes=9)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(PIXELS[rows]) for name, rows in self.SPLITS.items()}

    def _generate_examples(self, images):
        for key, image in enumerate(images):
            file = io.BytesIO()
            Image.fromarray(image).save(file, format="png")
            file.seek(0)
            yield key, {"image": file, "label": key}


class TinyTestless(TinyPictures):
    SPLITS: ClassVar = {"train": slice(0, 5)}


class TinyAnySize(TinyPictures):
    SPLITS: ClassVar = {"train": slice(0, 5), "test": slice(5, 8), "validation": slice(0, 1)}
    SHAPE = (None, None, 3)


class TinyUnlabelled(TinyPictures):
    SPLITS: ClassVar = {"train": slice(0, 5), "test": slice(5, 8)}

    def _split_generators(self, dl_manager):
        test = ((key, element | {"label": -1}) for key, element in self._generate_examples(PIXELS[5:]))
        return {"train": self._generate_examples(PIXELS[:5]), "test": test}


class TinyKinds(TinyPictures):
    """A class label of another name, with names, beside a number that is none."""

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=self.SHAPE),
            "kind": tfds.features.ClassLabel(names=["cat", "dog", "hen", "owl", "cow"]),
            "weight": np.float32,
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _generate_examples(self, images):
        for key, element in super()._generate_examples(images):
            yield key, {"image": element["image"], "kind": element["label"], "weight": 1.5}


def prepare(cls, folder, file_format="array_record") -> None:
    cls(data_dir=folder, file_format=file_format).download_and_prepare()


def refusal(name: str, data_dir) -> str:
    with pytest.raises(InputError) as error:
        load(DataConfig(name=name, data_dir=str(data_dir)))
    message = str(error.value)
    assert "\n" not in message
    assert repr(name) in message
    return message


def all_images(source) -> np.ndarray:
    return examples(source, range(len(source)))["image"]


def test_digits_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    originals = load_digits().images.astype(np.uint8)[..., None]
    train, test = all_images(digits.train), all_images(digits.test)
    assert train.shape == (1497, 8, 8, 1)
    assert test.shape == (300, 8, 8, 1)
    assert train.dtype == np.uint8
    assert digits.info.levels == 17
    assert train.max() == test.max() == 16
    together = sorted(image.tobytes() for image in np.concatenate([train, test]))
    assert together == sorted(image.tobytes() for image in originals)


def test_digits_have_their_labels(digits):
    from sklearn.datasets import load_digits

    originals = load_digits()
    pairs = zip(originals.images, originals.target, strict=True)
    label_of = {image.astype(np.uint8).tobytes(): label for image, label in pairs}
    assert digits.info.classes == tuple("0123456789")
    for source in (digits.train, digits.test):
        batch = examples(source, range(len(source)))
        assert batch["label"].dtype == np.int32
        assert batch["label"].tolist() == [label_of[image.tobytes()] for image in batch["image"]]


def test_digits_split_never_changes(digits):
    assert hashlib.sha256(all_images(digits.test).tobytes()).hexdigest()[:16] == "ccd5b41cbafc53da"


def test_photos32_sizes_and_record(photos32):
    info = photos32.info
    assert (info.shape, info.levels) == ((32, 32, 3), 256)
    assert len(photos32.train) == info.num_train == 9159
    assert len(photos32.test) == info.num_test == 744
    assert photos32.train[0]["image"].dtype == np.uint8
    assert json.loads(json.dumps(info.to_dict()))["shape"] == [32, 32, 3]
    assert "china" in info.preprocessing


def test_photos32_splits_share_no_photograph(data_dir, photos32):
    builder = photos32_builder.Photos32(data_dir=data_dir, file_format="array_record")
    photos = [{record["photo"] for record in builder.as_data_source(split)} for split in ("train", "test")]
    assert len(photos[0]) == 4
    assert len(photos[1]) == 3
    assert not photos[0] & photos[1]
    assert not any(b"motorcycle" in photo for photo in photos[1])  # of which there are two views
    for split, source, num in (("train", photos32.train, 4), ("test", photos32.test, 3)):
        # An entry "group" tells the photographs apart.
        records = list(builder.as_data_source(split))
        groups = examples(source, range(len(source)))["group"]
        assert groups.dtype == np.int32
        assert len(set(groups)) == len(set(zip((r["photo"] for r in records), groups.tolist(), strict=True))) == num
    train = {image.tobytes() for image in all_images(photos32.train)}
    assert not any(image.tobytes() in train for image in all_images(photos32.test))


def test_halving_takes_the_mean_of_two_by_two():
    image = np.array([[0, 1, 9], [2, 3, 9], [9, 9, 9]], np.uint8)[..., None]
    np.testing.assert_array_equal(photos32_builder.halve(image), [[[2]]])  # 1.5, rounded up
    assert photos32_builder.halve(np.full((4, 4, 3), 255, np.uint8)).min() == 255


def test_a_package_without_its_photographs_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(photos32_builder, "TRAIN_PHOTOS", (("skimage", "data/lost.png"),))
    message = refusal("photos32", tmp_path)
    assert "lost.png" in message
    assert str(tmp_path) in message
    assert not list(tmp_path.glob("**/*.array_record*"))  # nothing half-made is left


def test_prepared_once_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    load(DataConfig(name="digits"))
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert any("array_record" in file.name for file in files)
    load(DataConfig(name="digits"))
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == files


def test_damaged_data_are_named(tmp_path):
    prepare(TinyPictures, tmp_path)
    (records,) = tmp_path.rglob("*train.array_record*")
    whole = records.read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        records.write_bytes(damaged)
        assert f"in {tmp_path} cannot be read" in refusal("tiny_pictures", tmp_path)
    records.unlink()
    assert f"in {tmp_path} cannot be read" in refusal("tiny_pictures", tmp_path)
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(info.read_text()[:100])
    assert f"in {tmp_path} cannot be read" in refusal("tiny_pictures", tmp_path)
    (tmp_path / "digits" / "1.0.0").mkdir(parents=True)
    assert str(tmp_path / "digits" / "1.0.0") in refusal("digits", tmp_path)


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal("digits", tmp_path / "file")


def test_the_loser_of_a_race_reads_what_the_winner_left(tmp_path, monkeypatch):
    """Another process finishes after this one has looked and before it renames its own folder."""
    from vdm.data.builders.digits import Digits

    generate = Digits._split_generators

    def overtaken(self, dl_manager):
        monkeypatch.setattr(Digits, "_split_generators", generate)
        load(DataConfig(name="digits", data_dir=str(tmp_path)))
        return generate(self, dl_manager)

    monkeypatch.setattr(Digits, "_split_generators", overtaken)
    dataset = load(DataConfig(name="digits", data_dir=str(tmp_path)))
    assert len(dataset.train) == 1497
    assert dataset.train[0]["image"].max() > 0
    assert not list(tmp_path.rglob("incomplete*"))


def test_processes_that_prepare_at_once_without_tensorflow(tmp_path):
    """Two real processes; each must succeed, and none may have imported TensorFlow."""
    program = (
        "import sys\nfrom vdm.config import DataConfig\nfrom vdm import data\n"
        f"dataset = data.load(DataConfig(name='digits', data_dir={str(tmp_path)!r}))\n"
        "next(data.train_iterator(dataset, batch_size=8, seed=0))\n"
        "assert 'tensorflow' not in sys.modules\n"
        "print(len(dataset.train), len(dataset.test))"
    )

    def run(_) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)

    with ThreadPoolExecutor() as pool:
        for process in pool.map(run, range(2)):
            assert (process.returncode, process.stdout) == (0, "1497 300\n"), process.stderr
            assert process.stderr == ""


def test_a_prepared_data_set_is_found_by_name(tmp_path):
    prepare(TinyPictures, tmp_path)
    dataset = load(DataConfig(name="tiny_pictures", data_dir=str(tmp_path)))
    np.testing.assert_array_equal(all_images(dataset.train), PIXELS[:5])
    np.testing.assert_array_equal(all_images(dataset.test), PIXELS[5:])
    assert dataset.info.to_dict() == {
        "name": "tiny_pictures",
        "version": "3.1.4",
        "shape": [6, 6, 3],
        "levels": 256,
        "num_train": 5,
        "num_test": 3,
        "train_split": "train",
        "test_split": "validation",
        "preprocessing": "feature 'image' as TFDS decodes it",
        "classes": [str(k) for k in range(9)],
        "notes": ["training images: split train; test images: split validation"],
    }
    iterator = train_iterator(dataset, batch_size=2, seed=0, num_workers=1)  # the source survives pickling
    batch = next(iterator)
    assert batch["image"].shape == (2, 6, 6, 3)
    np.testing.assert_array_equal(batch["image"], PIXELS[batch["label"]])
    iterator.close()
    (batch,) = evaluation_batches(dataset.test, 3)
    np.testing.assert_array_equal(batch["image"], PIXELS[5:])
    assert batch["label"].tolist() == [0, 1, 2]


def test_a_prepared_data_set_whose_features_leave_the_size_open(tmp_path):
    prepare(TinyAnySize, tmp_path)
    dataset = load(DataConfig(name="tiny_any_size", data_dir=str(tmp_path), shape=(6, 6, 3)))
    assert dataset.info.shape == (6, 6, 3)
    assert dataset.info.test_split == "test"


def test_images_of_another_size_are_refused_when_read():
    records = [{"photo": np.zeros((6, 6, 3), np.uint8)}, {"photo": np.zeros((6, 7, 3), np.uint8)}]
    source = prepared.TfdsSource(records, {"image": "photo"})
    dataset = Dataset(DatasetInfo("odd", "1", (6, 6, 3), 256, 2, 2, "", "", ""), source, source)
    with pytest.raises(InputError, match=r"^data set 'odd': test element 1 has an image of uint8 \(6, 7, 3\)"):
        dataset.test[1]


def test_labels_that_a_split_was_published_without_are_left_out(tmp_path):
    prepare(TinyUnlabelled, tmp_path)
    dataset = load(DataConfig(name="tiny_unlabelled", data_dir=str(tmp_path)))
    assert dataset.train[0].keys() == dataset.test[0].keys() == {"image"}
    assert dataset.info.classes is None
    assert "no labels: split test was published without them" in dataset.info.notes


def test_the_only_class_label_is_the_label(tmp_path):
    prepare(TinyKinds, tmp_path)
    dataset = load(DataConfig(name="tiny_kinds", data_dir=str(tmp_path)))
    assert dataset.info.classes == ("cat", "dog", "hen", "owl", "cow")
    assert examples(dataset.train, range(5))["label"].tolist() == [0, 1, 2, 3, 4]


def test_prepared_without_a_test_split(tmp_path):
    prepare(TinyTestless, tmp_path)
    message = refusal("tiny_testless", tmp_path)
    assert "'validation'" in message
    assert "splits: train" in message


def test_prepared_in_another_format(tmp_path):
    prepare(TinyPictures, tmp_path)
    info = tmp_path / "tiny_pictures" / "3.1.4" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))  # to write tfrecord takes TensorFlow
    message = refusal("tiny_pictures", tmp_path)
    assert "as tfrecord" in message
    assert "array_record" in message
    assert str(tmp_path) in message


@pytest.mark.parametrize("name", ["no_such_set", "not a name", "mnist/no_such_config", ""])
def test_an_unknown_name_lists_what_needs_no_network(tmp_path, name):
    message = refusal(name, tmp_path)
    assert "unknown" in message
    assert "digits, photos32, npz:PATH, folder:PATH" in message


@pytest.mark.parametrize("name", ["cifar10", "downsampled_imagenet/32x32"])
def test_without_a_network_a_download_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(prepared, "_has_network", lambda: False)
    message = refusal(name, tmp_path)
    assert "no network" in message
    assert str(tmp_path) in message
    assert "npz:PATH" in message


@pytest.mark.skipif(prepared._has_network(), reason="this machine has a network")
def test_the_absence_of_a_network_is_noticed(tmp_path):
    assert "no network" in refusal("cifar10", tmp_path)


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    def fail(self, *args, **kwargs):
        raise ImportError("No module named 'tensorflow'\n\nand much more")

    monkeypatch.setattr(prepared, "_has_network", lambda: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    message = refusal("cifar10", tmp_path)
    assert "No module named 'tensorflow'" in message
    assert "npz:PATH" in message
