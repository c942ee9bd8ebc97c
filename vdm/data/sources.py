"""From a data configuration to a data set (`load`), the named sources, and configurations completed from data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vdm import parts, settings
from vdm.config import Config, DataConfig
from vdm.data.arrays import LevelsError
from vdm.data.dataset import Dataset, Progress, described
from vdm.data.folder import load_folder
from vdm.data.npz import load_npz
from vdm.data.prepared import load_builtin, load_tfds
from vdm.data.texts import Text, encoded
from vdm.errors import InputError


def load(config: DataConfig, progress: Progress | None = None, text: Text | None = None) -> Dataset:
    """Load the data set that `config.name` names: a source of `vdm.parts`, `npz:PATH`, `folder:PATH` or a TFDS name.

    `digits` and `photos32` are made from installed packages on first use and kept in the data folder. A TFDS data set
    is looked up there, and downloaded only if it is missing and there is a network. Reading never imports TensorFlow.
    Captions are encoded with `text` (that of a run) if given; otherwise with `config.text`, fitted to the training
    captions. A source receives `data_dir` and `levels` of the config, and `progress`, if its function has these
    arguments.

    Raises `InputError` if the data cannot be obtained or read, or do not match `config.shape` or `config.levels`.
    """
    settings.check(config, "data")
    try:
        context = {"data_dir": config.data_dir, "levels": config.levels, "progress": progress}
        dataset: Dataset = parts.make("source", _source(config.name), **context)
    except parts.PartError as error:
        raise InputError(f"data.name: {config.name!r}: {error.problem}; usage: {error.usage}") from error
    except LevelsError as error:
        remedy = "; a new run uses 256 with --config.data.levels=None" if config.levels is not None else ""
        raise InputError(f"{error}{remedy}") from None
    _check(config, dataset)
    return encoded(dataset, config.text if text is None else text)


def resolve(config: Config, dataset: Dataset) -> Config:
    """Return the config with shape, levels and the network's conditions filled in from the data.

    Raises `InputError` if the config specifies other values.
    """
    info, names = dataset.info, config.network.condition
    if not config.data.labels:
        names = tuple(name for name in names if name != "label")
    network = replace(config.network, condition=names)
    data = resolve_shape(config.data, dataset)
    if names:
        classes = len(info.classes) if "label" in names and info.classes is not None else None
        vocabulary = dataset.text.vocabulary if "text" in names and dataset.text is not None else None
        data = resolve_others(
            data, info.name, entries=described(dataset, names), classes=classes, vocabulary=vocabulary
        )
    return replace(config, data=data, network=network)


def resolve_shape(config: DataConfig, dataset: Dataset) -> DataConfig:
    """Return the config with the shape and levels of the data. Raises `InputError` if it specifies others."""
    _check(config, dataset)
    return replace(config, shape=tuple(dataset.info.shape), levels=dataset.info.levels)


def resolve_others(config: DataConfig, name: str, **found: Any) -> DataConfig:
    """Return the config with these fields as found in data set `name`. Raises `InputError` if it specifies others."""
    _refuse_others({field: (getattr(config, field), value) for field, value in found.items()}, name)
    return replace(config, **found)


def _check(config: DataConfig, dataset: Dataset) -> None:
    info = dataset.info
    shape = None if config.shape is None else tuple(config.shape)
    _refuse_others({"shape": (shape, tuple(info.shape)), "levels": (config.levels, info.levels)}, info.name)


def _refuse_others(fields: Mapping[str, Sequence[Any]], name: str) -> None:
    """Raise `InputError` if a field of `config.data`, as a pair (given, found), is given but differs from the data."""
    wrong = {field: pair for field, pair in fields.items() if pair[0] not in (None, pair[1])}
    if wrong:
        given = " and ".join(f"data.{field}: {wanted}" for field, (wanted, _) in wrong.items())
        found = " and ".join(str(there) for _, there in wrong.values())
        flags = " ".join(f"--config.data.{field}=None" for field in wrong)
        were = "were" if len(wrong) > 1 else "was"
        raise InputError(f"{given} {were} given, but {name!r} has {found}; a new run uses the data's own with {flags}")


def digits(data_dir: str = "") -> Dataset:
    """scikit-learn's 8×8 handwritten digits, built in the data folder on first use."""
    return load_builtin("digits", data_dir)


def photos32(data_dir: str = "") -> Dataset:
    """32×32×3 crops of photographs from scikit-learn and scikit-image, built in the data folder on first use."""
    return load_builtin("photos32", data_dir)


def npz(path: str, levels: int | None = None) -> Dataset:
    """The arrays of an npz file, with `levels` values (None: 256); see `vdm.data.npz.load_npz`."""
    return load_npz(path, levels)


def folder(path: str, progress: Progress | None = None) -> Dataset:
    """The images of a folder, one file per image; see `vdm.data.folder.load_folder`."""
    return load_folder(path, progress)


def tfds(name: str, data_dir: str = "") -> Dataset:
    """A data set of TensorFlow Datasets by name, e.g. `cifar10`."""
    return load_tfds(name, data_dir)


def _source(name: str) -> str:
    """Convert the config's name to a source: `npz:PATH` becomes npz('PATH'); names of no source are TFDS names."""
    kind, colon, path = name.partition(":")
    if kind in ("npz", "folder") and not path and "(" not in name:
        raise InputError(f"data.name: {name!r} names no path; write {kind}:PATH")
    if kind in ("npz", "folder") and colon:
        return f"{kind}({path!r})"
    return name if kind.partition("(")[0].strip() in parts.names("source") else f"tfds({name!r})"
