"""Images named on a command line: a folder of samples or pictures, an npz file, or DATA@SPLIT."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console

from vdm.config import DataConfig
from vdm.data import Dataset, load
from vdm.data.dataset import Element, Source
from vdm.errors import InputError
from vdm.evaluation.metrics import Labels
from vdm.evaluation.metrics.features import short
from vdm.evaluation.metrics.scoring import Real, labels_of
from vdm.evaluation.metrics.statistics import SOURCES, read_statistics
from vdm.files import expanded
from vdm.npz import array_names
from vdm.progress import progress_of
from vdm.reading import read_json, shown
from vdm.runs.records import read_record
from vdm.runs.shards import Shards

SPLITS = ("train", "test")


class Samples(NamedTuple):
    """Images to be measured."""

    source: Source
    labels: Callable[[], Labels] | None
    """Reads the labels; None if the images have none."""
    of: str
    """Name of the images, with a version."""
    shape: Sequence[int]


class RealImages(NamedTuple):
    """Real images that samples are compared with."""

    real: Real
    dataset: Dataset | None
    """Their data set; None for a file of statistics."""


class Both:
    """The train and test splits of a data set as one source."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset.train) + len(self._dataset.test)

    def __getitem__(self, index: int) -> Element:
        train = self._dataset.train
        return train[index] if index < len(train) else self._dataset.test[index - len(train)]


def samples_of(text: str, levels: int, console: Console) -> Samples:
    """Return the images that `text` names: those of both splits, unless `text` names one.

    Raises `InputError` for a name without images, and for images with another number of levels.
    """
    path = expanded(text)
    if path.is_dir() and any(path.glob("shard_*.npz")):
        shards = Shards(path)
        own = read_record(path.absolute().parents[1]).get("data", {}).get("levels", levels)
        if own != levels:
            raise InputError(f"{text}: has images of {shown(own)} levels; must be of {levels}, as the real ones")
        settings = json.dumps(read_json(path / "settings.json", {}), sort_keys=True)
        return Samples(shards, None, f"samples {short(settings)}", shards[0]["image"].shape)
    dataset, split = _read(text, levels, console)
    info = dataset.info
    source: Source = getattr(dataset, split) if split else Both(dataset)
    labels = None if info.classes is None else labels_of(source)
    return Samples(source, labels, f"{info.name} {info.version} {split}", info.shape)


def real_of(text: str, levels: int | None, console: Console) -> RealImages:
    """Return the real images that `text` names, or the statistics of an npz file with `mu` and `sigma`.

    The name of a data set without a split means its train split; a path means both. Raises `InputError` for a name
    without images, and for images with another number of levels unless `levels` is None.
    """
    path = expanded(text)
    if path.suffix == ".npz" and path.is_file() and set(SOURCES) <= set(array_names(path)):
        statistics = read_statistics(path)
        return RealImages(Real(None, None, statistics.name, statistics), None)
    dataset, split = _read(text, levels, console)
    if split or not path.exists():
        return RealImages(Real.of(dataset, split or "train"), dataset)
    info = dataset.info
    return RealImages(Real(Both(dataset), None, f"{info.name} {info.version} {info.preprocessing}"), dataset)


def _read(text: str, levels: int | None, console: Console) -> tuple[Dataset, str]:
    """Return the data set that DATA, DATA@SPLIT or a path names, and the split; "" if none is named."""
    name, _, split = text.rpartition("@")
    if split not in SPLITS:
        name, split = text, ""
    path = expanded(name)
    own = path.suffix == ".npz" and path.is_file()
    name = f"folder:{name}" if path.is_dir() else f"npz:{name}" if own else name
    with progress_of(console, f"reading {name}") as progress:
        # An npz file does not say how many levels its images have.
        dataset = load(DataConfig(name=name, levels=levels if own else None), progress)
    if levels not in (None, dataset.info.levels):
        raise InputError(f"{text}: has images of {dataset.info.levels} levels; must be of {levels}, as the others")
    return dataset, split
