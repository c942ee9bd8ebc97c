"""TFDS data: our own builders, and any data set already prepared as array_record. TensorFlow is not needed to read."""

import contextlib
import os
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from vdm.data import tfds_captions
from vdm.data.dataset import NO_CAPTIONS, NO_LABELS, OFFLINE_CHOICES, Dataset, DatasetInfo, Element
from vdm.data.texts import TEXT
from vdm.errors import InputError, one_line

NETWORK_TIMEOUT = 2.0
"""Seconds to wait for an answer when checking for a network."""


class TfdsSource:
    """The elements of one split: `entries` maps each entry to a feature of the records, as in {"image": "photo"}.

    A "group" may be any feature that takes one value per group; it is hashed to an integer.
    """

    def __init__(self, records: Any, entries: dict[str, str], captions: Sequence[tuple[str, ...]] | None = None):
        self._records, self._entries = records, entries
        self.captions = captions
        """All captions of each record; None if there are none."""

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Element:
        record = self._records[index]
        element = {entry: record[feature] for entry, feature in self._entries.items()}
        if "group" in element:
            element["group"] = np.int32(zlib.crc32(element["group"]) >> 1)
        return element if self.captions is None else element | {TEXT: self.captions[index]}


def load_builtin(name: str, data_dir: str) -> Dataset:
    """Load `digits` or `photos32`, built on first use (in seconds) from the packages that ship their images.

    Several processes may do so at once: TFDS builds in a temporary folder and renames it, and a process that comes
    later reads the result of the first. Raises `InputError` if the folder is not writable or a package lacks its files.
    """
    from vdm.data.builders.digits import Digits
    from vdm.data.builders.photos32 import Photos32

    cls, group = {"digits": (Digits, None), "photos32": (Photos32, "photo")}[name]
    folder = _data_folder(data_dir)

    def builder() -> tfds.core.DatasetBuilder:
        return cls(data_dir=folder, file_format="array_record")

    with _refusing_damage(name, folder), _quiet():
        try:
            builder().download_and_prepare()  # returns immediately if already prepared
        except (OSError, ImportError) as error:
            if not builder().is_prepared():  # otherwise another process prepared it first
                raise InputError(f"data set {name!r} cannot be prepared in {folder}: {one_line(error)}") from error
        return _read(builder(), name, group)


def load_tfds(name: str, data_dir: str) -> Dataset:
    """Load a TFDS image data set by name (`cifar10`, `downsampled_imagenet/32x32`); download it only if missing.

    The images are the feature `image`, or the only image feature; they must be uint8 of one shape. The labels are the
    feature `label`, or the only class label, if both splits have them. Captions are the feature `caption`, `captions`
    or `text` (one text, several, or several items with a text each), if both splits have them. The test split is `test`
    or, if there is none, `validation`. There are 256 levels unless the data set's metadata give `levels`.

    Raises `InputError` for an unknown name; for data that are neither prepared nor available (within seconds), are
    prepared in a format other than array_record, or lack a split; and for images that are not uint8.
    """
    folder = _data_folder(data_dir)
    with _refusing_damage(name, folder):
        try:
            builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
        except ValueError:  # includes DatasetNotFoundError, and names that TFDS cannot parse
            builder = _download(name, folder)
        return _read(builder, name)


def _read(builder: tfds.core.DatasetBuilder, name: str, group: str | None = None) -> Dataset:
    """Make a data set from a prepared builder; `group` is the feature that says what an image is a part of."""
    info = builder.info
    key = _image_feature(info.features, name)
    test_split = "test" if "test" in info.splits else "validation"
    entries, classes = {"image": key} | ({} if group is None else {"group": group}), None
    label = _label_feature(info.features)
    splits = []
    for split in ("train", test_split):
        if split not in info.splits or info.splits[split].num_examples == 0:
            found = ", ".join(info.splits) or "none"
            raise InputError(f"data set {name!r} in {builder.data_dir}: no images in split {split!r}; splits: {found}")
        try:
            records = builder.as_data_source(split, file_format="array_record")
        except (NotImplementedError, ValueError):
            raise InputError(
                f"data set {name!r} is prepared in {builder.data_dir} as {_format(info)}; must be array_record: "
                "choose another data.data_dir, or prepare it again with file_format='array_record'"
            ) from None
        splits.append(records)
    # Some test splits are published with −1 in place of labels.
    missing = (
        []
        if label is None
        else [split for split, records in zip(("train", test_split), splits, strict=True) if records[0][label] < 0]
    )
    if label is not None and not missing:
        entries["label"], classes = label, tuple(info.features[label].names)
    notes = [f"{NO_LABELS}split {split} was published without them" for split in missing]
    captions = tfds_captions.of_splits(builder, ("train", test_split), name)
    without = [split for split, found in captions.items() if not any(map(any, found))]
    notes += [f"{NO_CAPTIONS}split {split} was published without them" for split in without]
    train, test = (
        TfdsSource(records, entries, None if without else captions.get(split))
        for split, records in zip(("train", test_split), splits, strict=True)
    )
    if test_split != "test":
        notes.append(f"training images: split train; test images: split {test_split}")
    if others := [split for split in info.splits if split not in ("train", test_split)]:
        notes.append(f"left out: the splits {', '.join(others)}")
    metadata = info.metadata or {}
    record = DatasetInfo(
        name=name,
        version=str(info.version),
        shape=splits[0][0][key].shape,
        levels=metadata.get("levels", 256),
        num_train=len(train),
        num_test=len(test),
        train_split="train",
        test_split=test_split,
        preprocessing=metadata.get("preprocessing", f"feature {key!r} as TFDS decodes it"),
        classes=classes,
        notes=tuple(notes),
    )
    return Dataset(record, train, test)


def _format(info: tfds.core.DatasetInfo) -> str:
    return info.file_format.value if info.file_format else "an unknown format"


def _image_feature(features: Any, name: str) -> str:
    """Return the name of the image feature: `image`, or the only one of type Image."""
    keys = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    key = "image" if "image" in features else keys[0] if len(keys) == 1 else None
    if key is None:
        raise InputError(f"data set {name!r}: no feature 'image' and not one image feature among {', '.join(features)}")
    if features[key].np_dtype != np.uint8 or len(features[key].shape) != 3:
        raise InputError(
            f"data set {name!r}: {key!r} is {features[key].np_dtype} {features[key].shape}; must be uint8 (H, W, C)"
        )
    return key


def _label_feature(features: Any) -> str | None:
    """Return the name of the label feature: `label`, or the only one of type ClassLabel; None if there is none."""
    keys = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    return "label" if "label" in keys else keys[0] if len(keys) == 1 else None


def _download(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    """Download and prepare a public data set, or raise `InputError` within seconds if that is impossible."""
    try:
        with _quiet():
            builder = tfds.builder(name, data_dir=folder, file_format="array_record")
    except Exception:  # not found, not parsed, no such config, or code that needs TensorFlow to import
        raise InputError(
            f"unknown data set {name!r}: not prepared in {folder} and not known to TFDS; offline: {OFFLINE_CHOICES}"
        ) from None
    if not _has_network():
        raise InputError(
            f"data set {name!r} is not prepared in {folder} and there is no network to download it; "
            f"offline: {OFFLINE_CHOICES}"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # from the network, the disk, or a data set whose preparation needs TensorFlow
        raise InputError(
            f"data set {name!r} cannot be prepared in {folder}: {one_line(error)}; offline: {OFFLINE_CHOICES}"
        ) from error
    return tfds.builder(name, data_dir=folder, file_format="array_record")


@contextlib.contextmanager
def _refusing_damage(name: str, folder: Path) -> Iterator[None]:
    """Convert any error caused by damaged files of prepared data into `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # RuntimeError of array_record, ParseError of protobuf, …
        raise InputError(
            f"data set {name!r} in {folder} cannot be read: {one_line(error)}; delete it there to prepare it again"
        ) from error


def _has_network() -> bool:
    """Whether the server of TFDS files answers a single request (through a proxy, if one is set)."""
    answers = []

    def ask() -> None:
        request = urllib.request.Request("https://storage.googleapis.com/", method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT).close()
            answers.append(True)
        except urllib.error.HTTPError:  # an error status is still an answer
            answers.append(True)
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)  # in a thread, since name resolution has no timeout
    thread.start()
    thread.join(NETWORK_TIMEOUT + 0.5)
    return bool(answers)


def _data_folder(data_dir: str) -> Path:
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars, prints and logs of TFDS during work that takes about a second."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            yield
    finally:
        logging.set_verbosity(verbosity)
        tfds.enable_progress_bar()
