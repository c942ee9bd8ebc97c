"""`load`: from a data configuration to a data set; `resolve`: what a config then knows of it."""

from dataclasses import replace

from vdm.config import Config, DataConfig
from vdm.data.dataset import Dataset, described
from vdm.data.files import load_folder, load_npz
from vdm.data.prepared import load_builtin, load_tfds
from vdm.errors import InputError


def load(config: DataConfig) -> Dataset:
    """The data set that `config.name` names: `digits`, `photos32`, `npz:PATH`, `folder:PATH` or a TFDS name.

    `digits` and `photos32` are made from installed packages on first use and kept in the data folder; a TFDS name is
    looked for there, and downloaded only if it is missing and there is a network. TensorFlow is never imported to read.

    Raises `InputError` if the data cannot be had or read, or disagree with `config.shape` or `config.levels`.
    """
    if config.levels is not None and not 2 <= config.levels <= 256:
        raise InputError(f"data.levels: {config.levels} is not supported; allowed are 2 to 256")
    kind, _, path = config.name.partition(":")
    if kind in ("npz", "folder") and not path:
        raise InputError(f"data.name: {config.name!r} names no path; write {kind}:PATH")
    if kind == "npz":
        dataset = load_npz(path, levels=config.levels or 256)
    elif kind == "folder":
        dataset = load_folder(path)
    elif config.name in ("digits", "photos32"):
        dataset = load_builtin(config.name, config.data_dir)
    else:
        dataset = load_tfds(config.name, config.data_dir)
    _check(config, dataset)
    return dataset


def resolve(config: Config, dataset: Dataset) -> Config:
    """The config with name, shape and levels as the data have them, and what the network is conditioned on.

    Raises `InputError` if it asks for others.
    """
    _check(config.data, dataset)
    info, names = dataset.info, config.network.condition
    data = replace(config.data, name=info.name, shape=tuple(info.shape), levels=info.levels)
    if names:
        classes = len(info.classes) if "label" in names and info.classes is not None else None
        found = replace(data, entries=described(dataset, names), classes=classes)
        for field in ("entries", "classes"):
            wanted, there = getattr(data, field), getattr(found, field)
            if wanted is not None and wanted != there:
                raise InputError(f"data.{field}: {wanted} was given, but {info.name!r} has {there}")
        data = found
    return replace(config, data=data)


def _check(config: DataConfig, dataset: Dataset) -> None:
    info = dataset.info
    shape = None if config.shape is None else tuple(config.shape)
    for field, wanted, found in (("shape", shape, tuple(info.shape)), ("levels", config.levels, info.levels)):
        if wanted is not None and wanted != found:
            raise InputError(f"data.{field}: {wanted} was given, but {info.name!r} has {found}")
