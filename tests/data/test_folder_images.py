"""Folders of pictures as people have them: how they are split, what is left out and said, and what is refused."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_files import images, pixels, refusal, write_folder, write_grey
from PIL import Image

from vdm.config import Config, DataConfig, NetworkConfig
from vdm.data import Dataset, examples, load, resolve, train_iterator
from vdm.data.folder import load_folder
from vdm.errors import InputError


def opened(root) -> Dataset:
    return load(DataConfig(name=f"folder:{root}"))


def values(source) -> list[int]:
    """The grey values of pictures of `write_grey`."""
    return sorted(int(image.max()) for image in pixels(source))


def notes(dataset: Dataset) -> str:
    return "\n".join(dataset.info.notes)


def numbered(num: int, folder: str = "", first: int = 0) -> dict[str, int]:
    return {f"{folder}{k:03}.png": first + k for k in range(num)}


LAYOUTS = [
    # What there is, the test split, and what is left out of both: of each folder the number of its pictures.
    ({"train/": 6, "test/": 3}, "test/", []),
    ({"train/": 6, "val/": 3}, "val/", []),
    ({"Train/": 6, "Validation/": 3}, "Validation/", []),
    ({"TRAIN/": 6, "valid/": 3}, "valid/", []),
    ({"training/": 6, "testing/": 3}, "testing/", []),
    ({"train/": 6, "dev/": 3}, "dev/", []),
    ({"train/": 6, "val/": 2, "test/": 3}, "test/", ["val/"]),
    ({"train/": 6, "test/": 3, "unlabeled/": 4, "": 2}, "test/", ["unlabeled/", ""]),
    ({"train/a/": 6, "train/b/": 6, "test/a/": 3, "test/b/": 3}, "test/", []),
    ({"train/train/": 6, "train/test/": 3, "test/train/": 2}, "test/", []),
]


@pytest.mark.parametrize(("layout", "test", "left_out"), LAYOUTS)
def test_folders_named_as_splits(tmp_path, layout, test, left_out):
    """Each picture has a value of its own."""
    of, first = {}, 0
    for folder, num in layout.items():
        write_grey(tmp_path, numbered(num, folder, first))
        of[folder] = list(range(first, first + num))
        first += num
    dataset = opened(tmp_path)
    train = next(iter(layout)).partition("/")[0] + "/"
    wanted = {
        split: [value for folder, of_it in of.items() if folder.startswith(split) for value in of_it]
        for split in (train, test)
    }
    assert values(dataset.train) == wanted[train]
    assert values(dataset.test) == wanted[test]
    assert (dataset.info.train_split, dataset.info.test_split) == (train, test)
    for folder in left_out:
        assert f"{layout[folder]} {folder or 'files'}" in notes(dataset)
    assert ("left out" in notes(dataset)) == bool(left_out)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"train/": 6}, ["6 train", "{root}/train"]),
        ({"test/": 6, "val/": 3}, ["6 test, 3 val"]),
        ({"train/": 6, "": 3}, ["6 train"]),
        ({"train/": 6, "boat/": 3, "car/": 3}, ["6 train"]),
        ({"train2017/": 6, "val2017/": 3}, ["6 train2017, 3 val2017", "train/ and one of test, ", "val"]),
        ({"DIV2K_train_HR/": 6, "DIV2K_valid_HR/": 3}, ["DIV2K_train_HR"]),
        ({"images/train/": 6, "images/val/": 3}, ["6 images/train", "give folder:{root}/images"]),
        ({"cats/train/": 6, "cats/test/": 3, "dogs/train/": 6, "dogs/test/": 3}, ["cats/train", "dogs/test"]),
        ({"Train/": 6, "train/": 6, "test/": 3}, ["'Train' and 'train'"]),
        ({"train/": 6, "Val/": 2, "val/": 3}, ["'Val' and 'val'"]),
    ],
)
def test_pictures_are_not_pooled_over_splits_that_others_made(tmp_path, layout, words):
    for folder, num in layout.items():
        write_grey(tmp_path, numbered(num, folder))
    refusal(f"folder:{tmp_path}", f"folder:{tmp_path}: ", *(word.format(root=tmp_path) for word in words))


@pytest.mark.parametrize("empty", ["train", "test"])
def test_a_named_split_without_pictures(tmp_path, empty):
    write_grey(tmp_path, numbered(3, "test/" if empty == "train" else "train/"))
    (tmp_path / empty).mkdir()
    refusal(f"folder:{tmp_path}", f"no pictures in {empty}/")


def test_without_named_splits_a_hash_of_the_name_decides(tmp_path):
    """Of 200 pictures in class folders, each of some class is in the test split, and stays where more are added."""
    write_grey(tmp_path, {f"{k % 4}/{k:03}.png": k for k in range(150)})
    few = opened(tmp_path)
    write_grey(tmp_path, {f"{k % 4}/{k:03}.png": k for k in range(150, 200)})
    many = opened(tmp_path)
    train, test = set(values(many.train)), set(values(many.test))
    assert sorted(train | test) == list(range(200))
    assert not train & test
    assert set(values(few.train)) < train
    assert set(values(few.test)) < test
    assert {value % 4 for value in test} == set(range(4))
    assert "hash" in many.info.test_split
    assert many.info.test_split in notes(many)


def test_the_split_is_the_same_wherever_the_folder_is(tmp_path):
    for root in (tmp_path / "a", tmp_path / "b" / "c"):
        write_grey(root, numbered(30))
    assert values(opened(tmp_path / "a").test) == values(opened(tmp_path / "b" / "c").test)


def test_class_folders_are_labels(tmp_path):
    write_grey(
        tmp_path, {f"{split}/{name}/{k}.png": k for split in ("train", "val") for name in "ba" for k in range(4)}
    )
    write_grey(tmp_path, {"train/c/0.png": 0, "train/c/1.png": 1})
    dataset = opened(tmp_path)
    assert dataset.info.classes == ("a", "b", "c")
    assert "3 classes, by their folders: a, b, c" in dataset.info.notes
    assert "classes with only training images: c" in dataset.info.notes
    np.testing.assert_array_equal(examples(dataset.train, range(10))["label"], [0] * 4 + [1] * 4 + [2] * 2)
    np.testing.assert_array_equal(examples(dataset.test, range(8))["label"], [0] * 4 + [1] * 4)


def test_every_class_has_a_test_image(tmp_path):
    """Of ten images each: chance would leave about a third of the classes without."""
    write_grey(tmp_path, {f"{c}/{k}.png": c for c in range(10) for k in range(10)} | {"one/0.png": 10})
    dataset = opened(tmp_path)
    assert set(values(dataset.test)) == set(range(10))
    assert set(values(dataset.train)) == set(range(11))


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    write_grey(tmp_path, {f"{c}/{k}.png": c for c in (0, 2, 10) for k in range(8)})
    dataset = opened(tmp_path)
    assert dataset.info.classes == ("0", "2", "10")
    for source in (dataset.train, dataset.test):
        for index in range(len(source)):
            element = source[index]
            assert dataset.info.classes[element["label"]] == str(element["image"].max())


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([f"{k}.png" for k in range(12)], ""),
        ([f"all/{k}.png" for k in range(12)], "no labels: all images lie in one folder, all/"),
        (
            [f"{k % 2}/{k}.png" for k in range(12)] + ["beside.png"],
            "no labels: 1 of 13 images lies outside the class folders, such as beside.png",
        ),
        (
            [f"{k % 2}/{k % 3}/{k}.png" for k in range(10)] + ["0/a.png", "1/a.png"],
            "no labels: 10 of 12 images lie outside the class folders, such as 0/0/0.png",
        ),
        (
            [f"{k}/image.png" for k in range(12)],
            "no labels: 12 folders with 12 images: classes need two or more images each",
        ),
    ],
)
def test_other_folders_are_no_classes(tmp_path, names, why):
    """Files in one folder, or with others beside, or deeper ones, or a folder an image; said where labels are asked."""
    dataset = opened(tmp_path) if write_grey(tmp_path, dict.fromkeys(names, 0)) else None
    assert dataset.info.classes is None
    assert set(dataset.train[0]) == {"image"}
    assert [note for note in dataset.info.notes if note.startswith("no labels")] == [why] * bool(why)
    config = Config(data=DataConfig(name=dataset.info.name), network=NetworkConfig(condition=("label",)))
    with pytest.raises(InputError, match=r"'label' is not in data set .* it has nothing") as error:
        resolve(config, dataset)
    assert why in str(error.value)
    assert str(error.value).endswith("; --config.data.labels=False trains without labels")
    config.data.labels = False
    assert resolve(config, dataset).network.condition == ()


def test_what_is_left_out_is_counted(tmp_path):
    write_grey(tmp_path, numbered(20) | {".ipynb_checkpoints/0.png": 99, "__MACOSX/0.png": 99, ".hidden.png": 99})
    write_grey(tmp_path, {"a/._000.png": 99, "a/020.PNG": 20})
    for name in ("a.txt", "b.txt", "c.tif", "Thumbs.db", "readme"):
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    dataset = opened(tmp_path)
    assert sorted(values(dataset.train) + values(dataset.test)) == list(range(21))
    left_out = next(note for note in dataset.info.notes if note.startswith("left out"))
    assert "hidden: 3 files, 1 .ipynb_checkpoints/, 1 __MACOSX/" in left_out
    assert "of other types: 2 .txt, 1 .tif, 1 no suffix" in left_out
    assert "special files or broken links: 1 gone.png" in left_out


def test_links_are_followed_once(tmp_path):
    """To a folder elsewhere, to one that is there already, and to the folder itself."""
    root, other = tmp_path / "root", tmp_path / "other"
    write_grey(root / "a", numbered(10))
    write_grey(other, numbered(10, first=10))
    (root / "b").symlink_to(other)
    (other / "file.png").symlink_to(root / "a" / "000.png")
    (root / "0").symlink_to(root / "a")
    (other / "back").symlink_to(root)
    (root / "loop").symlink_to(root / "loop")
    dataset = opened(root)
    assert sorted(values(dataset.train) + values(dataset.test)) == [0, *range(20)]
    assert "links to folders already found: 1 0/, 1 b/back/" in notes(dataset)
    assert "copies: 1 files" in notes(dataset)


def test_copies_in_both_splits_are_said(tmp_path):
    write_grey(tmp_path, numbered(5, "train/") | numbered(3, "test/", first=3) | {"train/copy.png": 0})
    assert "copies: 3 files have the same content as others, 2 in both splits" in notes(opened(tmp_path))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=6), min_size=2, max_size=5, unique_by=lambda name: name + b".png"))
def test_any_name_of_a_file(names):
    """All that Linux allows: bytes that are no UTF-8, brackets, line breaks, braces; but / and a dot in front."""
    names = [
        name.replace(b"/", b"_").replace(b"\0", b"_").replace(b".", b"_") + b"%d.png" % k
        for k, name in enumerate(names)
    ]
    root = os.path.join(os.fsencode(SCRATCH), b"%d" % len(os.listdir(SCRATCH)), b"caf\xe9 [x] {y} 'z' (1)")
    os.makedirs(root)
    for value, name in enumerate(names):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(os.path.join(root, name), format="PNG")
    dataset = load(DataConfig(name=f"folder:{os.fsdecode(root)}"))
    assert sorted(values(dataset.train) + values(dataset.test)) == list(range(len(names)))
    assert (dataset.info.name + notes(dataset)).encode().decode() == dataset.info.name + notes(dataset)


@pytest.fixture(autouse=True, scope="module")
def _scratch(tmp_path_factory):
    global SCRATCH  # noqa: PLW0603
    SCRATCH = tmp_path_factory.mktemp("names")


def test_an_error_about_a_name_that_is_no_utf8_can_be_printed(tmp_path):
    name = write_grey(tmp_path, numbered(3))
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.png"), "wb") as file:
        file.write(b"hello")
    refusal(name, "caf\\xe9.png: not a readable picture").encode()


def test_version_follows_names_and_contents(tmp_path):
    def version(root) -> str:
        return opened(root).info.version

    arrays = images(4)
    write_folder(tmp_path / "a", arrays)
    write_folder(tmp_path / "b", arrays)
    first = version(tmp_path / "a")
    assert first == version(tmp_path / "b")
    (tmp_path / "a" / "003.png").rename(tmp_path / "a" / "004.png")
    renamed = version(tmp_path / "a")
    arrays[0, 0, 0, 0] ^= 1
    Image.fromarray(arrays[0]).save(tmp_path / "a" / "000.png")
    assert len({first, renamed, version(tmp_path / "a")}) == 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp", ".gif", ".webp"])
def test_formats(tmp_path, suffix):
    info = opened(tmp_path).info if write_folder(tmp_path, images(3), suffix) else None
    assert info.num_train + info.num_test == 3


def test_data_that_are_not_kept_are_the_same(tmp_path):
    """Beyond a limit pictures are decoded as they are read: the same elements, in threads and other processes too."""
    write_grey(tmp_path, {f"{k % 2}/{k:02}.png": k for k in range(40)})
    seen = []
    kept = load_folder(str(tmp_path), lambda done, total: seen.append((done, total)))
    lazy = load_folder(str(tmp_path), kept=40 * 16 - 1)
    assert seen[-1] == (40, 40)
    assert kept.info == lazy.info
    for split in ("train", "test"):
        one, other = getattr(kept, split), pickle.loads(pickle.dumps(getattr(lazy, split)))
        assert type(one.source) is not type(other.source)
        for index in range(len(one)):
            np.testing.assert_array_equal(one[index]["image"], other[index]["image"])
            assert one[index]["label"] == other[index]["label"]
    batches = [next(train_iterator(each, batch_size=30, seed=3)) for each in (kept, lazy)]
    for entry in ("image", "label"):
        np.testing.assert_array_equal(batches[0][entry], batches[1][entry])


@pytest.mark.parametrize("how", ["gone", "broken", "other", "pixels"])
def test_a_file_that_changes_meanwhile_is_named(tmp_path, how):
    write_grey(tmp_path, numbered(20))
    dataset = load_folder(str(tmp_path), kept=0)
    for k in range(20):
        file = tmp_path / f"{k:03}.png"
        if how == "gone":
            file.unlink()
        elif how == "broken":
            file.write_bytes(file.read_bytes()[:-20])
        else:
            Image.new("L", (5, 4) if how == "other" else (4, 4), 99).save(file)
    with pytest.raises(InputError, match=rf"{tmp_path}/0\d\d.png: ") as error:
        next(train_iterator(dataset, batch_size=4, seed=0))
    assert "\n" not in str(error.value)


def test_refusals(tmp_path):
    refusal(f"folder:{tmp_path / 'missing'}", "no such folder")
    refusal("folder:", "names no path")
    refusal(f"folder:{tmp_path}", "no pictures", ".png")
    (tmp_path / "a.tiff").touch()
    refusal(f"folder:{tmp_path}", "no pictures", "of other types: 1 .tiff")
    refusal(f"folder:{tmp_path / 'a.tiff'}", "is not a folder")
    refusal(write_folder(tmp_path, images(1)), "1 image; at least 2")


def test_pictures_that_differ_or_are_none(tmp_path):
    name, odd = write_folder(tmp_path, images(4)), tmp_path / "zz_odd.png"
    Image.new("RGB", (7, 4)).save(odd)
    assert refusal(name, "7×4", "5×4").startswith(str(odd))
    Image.new("L", (5, 4)).save(odd)
    assert refusal(name, "1 channel,", "3 channels").startswith(str(odd))
    Image.new("I;16", (5, 4)).save(odd)
    assert refusal(name, "16 bits").startswith(str(odd))
    odd.write_text("hello")
    assert refusal(name, "none of PNG").startswith(str(odd))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_a_truncated_picture(tmp_path, suffix):
    name = write_folder(tmp_path, images(3, (64, 64, 3)), suffix)
    file = tmp_path / f"001{suffix}"
    file.write_bytes(file.read_bytes()[:-2000])
    assert refusal(name).startswith(f"{file}: not a readable picture")


def test_what_the_config_says_must_agree(tmp_path):
    """The default config is of digits; the refusal says which flags take what the data have."""
    name = write_folder(tmp_path, images(3))
    assert load(DataConfig(name=name, shape=(4, 5, 3), levels=256)).info.shape == (4, 5, 3)
    both = refusal(name, "(4, 5, 3) and 256", shape=(8, 8, 1), levels=17)
    assert both.startswith("data.shape: (8, 8, 1) and data.levels: 17 ")
    assert both.endswith("--config.data.shape=None --config.data.levels=None")
    assert refusal(name, levels=17).endswith("with --config.data.levels=None")
    assert refusal(name, shape=(8, 8, 1)).endswith("with --config.data.shape=None")
