"""Images from the user's own files: one npz file, or a folder of pictures. Both are held in memory, decoded."""

import hashlib
import math
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from vdm.data.arrays import check_images, in_memory
from vdm.data.dataset import Dataset
from vdm.errors import InputError, one_line

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
SPLIT_RULE = "the last tenth (rounded up) is the test split"


def load_npz(path: str, levels: int) -> Dataset:
    """The images of an npz file: integers in 0 .. levels − 1, shape (N, H, W, C), or (N, H, W) for one channel.

    Arrays `train` and `test` are the two splits, whatever else the file holds. A file with one array, of any name,
    is split: the last tenth of it, rounded up, is the test split. The version is a hash of the file's bytes.

    Raises `InputError` for a missing or broken file, missing arrays, other types or ranks, values outside the levels,
    splits of different image shapes, an empty split or an image without pixels.
    """
    name, file = f"npz:{path}", Path(path).expanduser()
    arrays = {key: check_images(f"{name} array {key!r}", array, levels) for key, array in _read_npz(file, name).items()}
    if len(arrays) == 2:
        train, test = arrays["train"], arrays["test"]
        splits, rule = ("array train", "array test"), ""
        if train.shape[1:] != test.shape[1:]:
            raise InputError(f"{name}: images of 'train' are {train.shape[1:]}, those of 'test' {test.shape[1:]}")
    else:
        ((key, images),) = arrays.items()
        boundary = _boundary(name, len(images))
        train, test = images[:boundary], images[boundary:]
        splits, rule = (f"array {key}[:{boundary}]", f"array {key}[{boundary}:]"), f"; {SPLIT_RULE}"
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    preprocessing = "values as stored" + rule
    return in_memory(
        {"image": train},
        {"image": test},
        levels=levels,
        name=name,
        version=f"sha256:{digest[:16]}",
        splits=splits,
        preprocessing=preprocessing,
    )


def _read_npz(path: Path, name: str) -> dict[str, np.ndarray]:
    """`train` and `test`, or the only array there is; one InputError for every way in which that can fail."""
    if not path.is_file():
        raise InputError(f"{name}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        with zipfile.ZipFile(path):
            pass  # np.load would take other things than an npz file, too
        with np.load(path, allow_pickle=False) as file:
            keys = ("train", "test") if {"train", "test"} <= set(file.files) else file.files
            if keys == file.files and len(keys) != 1:
                found = ", ".join(sorted(keys)) or "none"
                raise InputError(f"{name}: found the arrays {found}; needed are 'train' and 'test', or a single array")
            return {key: file[key] for key in keys}
    except InputError:
        raise
    except Exception as error:  # OSError, ValueError, BadZipFile, zlib.error, … by where the damage is
        raise InputError(f"{name}: not a readable npz file: {one_line(error)}") from None


def load_folder(path: str) -> Dataset:
    """The pictures of a folder (png, jpg, bmp, gif, webp; with subfolders), all of one size; 256 levels.

    Subfolders `train` and `test` are the two splits. Without both of them, the files in sorted order are split: the
    last tenth, rounded up, is the test split. Grey pictures have one channel, all others become RGB (alpha is dropped,
    palettes are looked up, of an animation the first frame counts). Every picture is decoded here, so that a broken
    one is refused before any work is done. The version is a hash of file names and pixels.

    Raises `InputError` for a missing folder, an empty split, a broken picture, or pictures of different sizes or
    channels (naming the file).
    """
    name, root = f"folder:{path}", Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"{name}: no such folder")
    if (root / "train").is_dir() and (root / "test").is_dir():
        train_files, test_files = _image_files(root / "train", name), _image_files(root / "test", name)
        files, boundary = train_files + test_files, len(train_files)
        splits, rule = ("train/", "test/"), ""
    else:
        files = _image_files(root, name)
        boundary = _boundary(name, len(files))
        splits, rule = (f"sorted files [:{boundary}]", f"sorted files [{boundary}:]"), f"; {SPLIT_RULE}"
    images = _decode_all(files)
    names = "\n".join(file.relative_to(root).as_posix() for file in files)
    hashed = hashlib.sha256(names.encode())
    hashed.update(images.data)
    digest = hashed.hexdigest()
    train, test = images[:boundary], images[boundary:]
    preprocessing = "grey pictures: 1 channel; others: RGB, without alpha" + rule
    return in_memory(
        {"image": train},
        {"image": test},
        name=name,
        version=f"sha256:{digest[:16]}",
        splits=splits,
        preprocessing=preprocessing,
    )


def _image_files(folder: Path, name: str) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise InputError(f"{name}: no pictures in {folder} (looked for {', '.join(IMAGE_SUFFIXES)})")
    return files


def _decode_all(files: list[Path]) -> np.ndarray:
    """All pictures as uint8 (N, H, W, C). Sizes are compared first: that reads headers only, and fails early."""
    first = _open(files[0], decode=False)
    for file in files:
        shape = _open(file, decode=False)
        if shape != first:
            raise InputError(
                f"{file}: {_describe(shape)}, but {files[0].name} is {_describe(first)}; all must be the same"
            )
    images = np.empty((len(files), *first), np.uint8)
    for index, file in enumerate(files):
        images[index] = _open(file, decode=True)
    return images


def _open(file: Path, decode: bool) -> np.ndarray | tuple[int, int, int]:
    """The picture as uint8 (H, W, C) or, read from its header, its shape."""
    try:
        with Image.open(file) as image:
            if image.mode[:1] in ("I", "F"):  # 16-bit or float: conversion to 8 bits would clip, silently
                raise InputError(f"{file}: pixels of mode {image.mode}; needed are 8-bit pictures")
            mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
            shape = (image.height, image.width, len(mode))
            return np.asarray(image.convert(mode)).reshape(shape) if decode else shape
    except InputError:
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, …
        raise InputError(f"{file}: not a readable picture: {one_line(error)}") from None


def _boundary(name: str, num_images: int) -> int:
    if num_images < 2:
        raise InputError(f"{name}: {num_images} image; at least 2 are needed to have a train and a test split")
    return num_images - math.ceil(num_images / 10)


def _describe(shape: np.ndarray | tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{width}×{height} with {channels} channel{'s' if channels > 1 else ''}"
