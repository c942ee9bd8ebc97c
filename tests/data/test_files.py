"""npz files and folders of pictures: what is read, and what is refused in one line that names it."""

import numpy as np
import pytest
from PIL import Image

from vdm.config import DataConfig
from vdm.data import examples, load
from vdm.errors import InputError


def images(num: int = 21, shape: tuple[int, ...] = (4, 5, 3), high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, (num, *shape), dtype=np.uint8)


def pixels(source) -> np.ndarray:
    return examples(source, range(len(source)))["image"]


def refusal(name: str, **config) -> str:
    with pytest.raises(InputError) as error:
        load(DataConfig(name=name, **config))
    message = str(error.value)
    assert "\n" not in message
    return message


def write_npz(tmp_path, **arrays) -> str:
    np.savez(tmp_path / "data.npz", **arrays)
    return f"npz:{tmp_path / 'data.npz'}"


def write_folder(root, arrays: np.ndarray, suffix: str = ".png") -> str:
    root.mkdir(parents=True, exist_ok=True)
    for index, array in enumerate(arrays):
        Image.fromarray(array).save(root / f"{index:03}{suffix}")
    return f"folder:{root}"


def test_npz_with_two_arrays_ignores_others(tmp_path):
    train, test = images(9), images(4)[::-1]
    dataset = load(DataConfig(name=write_npz(tmp_path, train=train, test=test, labels=np.array([{}]))))
    np.testing.assert_array_equal(pixels(dataset.train), train)
    np.testing.assert_array_equal(pixels(dataset.test), test)
    assert dataset.train[0]["image"].dtype == np.uint8
    assert (dataset.info.shape, dataset.info.levels) == ((4, 5, 3), 256)
    assert (dataset.info.num_train, dataset.info.num_test) == (9, 4)


@pytest.mark.parametrize(("num", "num_test"), [(21, 3), (20, 2), (2, 1)])
def test_npz_with_one_array_is_split(tmp_path, num, num_test):
    array = images(num, (4, 4)).astype(np.int64)
    dataset = load(DataConfig(name=write_npz(tmp_path, anything=array)))
    assert (len(dataset.train), len(dataset.test)) == (num - num_test, num_test)
    np.testing.assert_array_equal(np.concatenate([pixels(dataset.train), pixels(dataset.test)])[..., 0], array)
    assert dataset.info.shape == (4, 4, 1)
    assert "last tenth" in dataset.info.preprocessing


def test_npz_version_follows_the_bytes(tmp_path):
    versions = [load(DataConfig(name=write_npz(tmp_path, a=images(num)))).info.version for num in (5, 5, 6)]
    assert versions[0] == versions[1] != versions[2]


def test_npz_levels(tmp_path):
    name = write_npz(tmp_path, a=images(high=17))
    assert load(DataConfig(name=name, levels=17)).info.levels == 17
    assert load(DataConfig(name=name)).info.levels == 256
    message = refusal(name, levels=16)
    assert "0 to 16" in message
    assert "levels=16" in message
    assert "data.levels: 300" in refusal(name, levels=300)
    assert "data.levels: 1 " in refusal(name, levels=1)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": images() / 255}, ["'a'", "float64"]),
        ({"a": images() > 3}, ["'a'", "bool"]),
        ({"a": images(shape=(4,))}, ["'a'", "(21, 4)"]),
        ({"a": images().astype(np.int32) - 1}, ["'a'", "-1 to", "levels=256"]),
        ({"a": images().astype(np.int32) + 1}, ["'a'", "to 256", "levels=256"]),
        ({"a": images(1)}, ["1 image"]),
        ({"a": images(0)}, ["'a'", "(0, 4, 5, 3)"]),
        ({"a": images(shape=(4, 0, 3))}, ["'a'", "(21, 4, 0, 3)"]),
        ({"train": images(), "test": images(0)}, ["'test'", "(0, 4, 5, 3)"]),
        ({"train": images(), "test": images(shape=(4, 4, 3))}, ["(4, 5, 3)", "(4, 4, 3)"]),
        ({"train": images(), "labels": images()}, ["labels, train", "'test'"]),
        ({}, ["none", "'test'"]),
    ],
)
def test_npz_refusals(tmp_path, arrays, words):
    name = write_npz(tmp_path, **arrays)
    message = refusal(name)
    assert [word for word in (name, *words) if word not in message] == []


def test_npz_files_that_are_none(tmp_path):
    assert "no such file" in refusal(f"npz:{tmp_path / 'missing.npz'}")
    assert "not a file" in refusal(f"npz:{tmp_path}")
    assert "names no path" in refusal("npz:")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "array.npy", images())
    np.savez(tmp_path / "objects.npz", a=np.array([{}]))
    for file in ("text.npz", "empty.npz", "array.npy", "objects.npz"):
        assert str(tmp_path / file) in refusal(f"npz:{tmp_path / file}")


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_npz_truncated_or_corrupt(tmp_path, compress):
    file = tmp_path / "data.npz"
    compress(file, a=images(200))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert str(file) in refusal(f"npz:{file}")
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(byte ^ 255 for byte in whole[middle : middle + 50]) + whole[middle + 50 :])
    assert str(file) in refusal(f"npz:{file}")


def test_folder_without_splits_is_split_in_sorted_order(tmp_path):
    arrays = images()
    (tmp_path / "notes.txt").write_text("not a picture")
    name = write_folder(tmp_path, arrays[:11])
    write_folder(tmp_path / "more", arrays[11:])
    dataset = load(DataConfig(name=name))
    assert (len(dataset.train), len(dataset.test)) == (18, 3)
    np.testing.assert_array_equal(np.concatenate([pixels(dataset.train), pixels(dataset.test)]), arrays)
    assert (dataset.info.shape, dataset.info.levels) == ((4, 5, 3), 256)


def test_folder_with_splits(tmp_path):
    train, test = images(5), images(8)[5:]
    write_folder(tmp_path / "train", train)
    write_folder(tmp_path / "test", test)
    dataset = load(DataConfig(name=f"folder:{tmp_path}"))
    np.testing.assert_array_equal(pixels(dataset.train), train)
    np.testing.assert_array_equal(pixels(dataset.test), test)


def test_folder_version_follows_names_and_pixels(tmp_path):
    def version() -> str:
        return load(DataConfig(name=f"folder:{tmp_path}")).info.version

    arrays = images(4)
    write_folder(tmp_path, arrays)
    first = version()
    assert first == version()
    (tmp_path / "003.png").rename(tmp_path / "004.png")
    renamed = version()
    arrays[0, 0, 0, 0] ^= 1
    Image.fromarray(arrays[0]).save(tmp_path / "000.png")
    assert len({first, renamed, version()}) == 3


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)])
def test_folder_modes(tmp_path, mode, channels):
    for index in range(2):
        Image.new(mode, (5, 4)).save(tmp_path / f"{index}.png")
    assert load(DataConfig(name=f"folder:{tmp_path}")).info.shape == (4, 5, channels)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".gif", ".webp"])
def test_folder_formats(tmp_path, suffix):
    assert load(DataConfig(name=write_folder(tmp_path, images(3), suffix))).info.num_train == 2


def test_folder_refusals(tmp_path):
    assert "no such folder" in refusal(f"folder:{tmp_path / 'missing'}")
    assert "names no path" in refusal("folder:")
    assert f"no pictures in {tmp_path}" in refusal(f"folder:{tmp_path}")
    assert "1 image" in refusal(write_folder(tmp_path, images(1)))
    name = write_folder(tmp_path, images(4))

    odd = tmp_path / "zz_odd.png"
    Image.new("RGB", (7, 4)).save(odd)
    message = refusal(name)
    assert message.startswith(str(odd))
    assert "7×4" in message
    assert "5×4" in message
    Image.new("L", (5, 4)).save(odd)
    message = refusal(name)
    assert message.startswith(str(odd))
    assert "1 channel," in message
    assert "3 channels" in message
    Image.new("I;16", (5, 4)).save(odd)
    assert refusal(name).startswith(str(odd))
    odd.write_text("hello")
    assert refusal(name).startswith(str(odd))
    odd.unlink()
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert "no pictures in" in refusal(name)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_folder_with_a_truncated_picture(tmp_path, suffix):
    name = write_folder(tmp_path, images(3, (64, 64, 3)), suffix)
    file = tmp_path / f"001{suffix}"
    file.write_bytes(file.read_bytes()[:-2000])
    assert refusal(name).startswith(f"{file}: not a readable picture")


@pytest.mark.parametrize(("field", "wanted"), [("shape", (8, 8, 3)), ("levels", 17)])
def test_what_the_config_says_must_agree(tmp_path, field, wanted):
    name = write_folder(tmp_path, images(3))
    assert load(DataConfig(name=name, shape=(4, 5, 3), levels=256)).info.num_train == 2
    message = refusal(name, **{field: wanted})
    assert message.startswith(f"data.{field}: {wanted} ")
    assert str({"shape": (4, 5, 3), "levels": 256}[field]) in message
