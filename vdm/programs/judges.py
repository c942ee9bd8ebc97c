"""The classifier whose features samples are compared by: one in a folder, or the data's own, trained when needed."""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import cache as once
from functools import partial
from pathlib import Path

from rich.console import Console

from vdm import parallel, parts
from vdm.classifier import ClassifierConfig, ClassifierNetworkConfig
from vdm.config import DataConfig, EvaluationConfig, TrainingConfig
from vdm.data import Dataset
from vdm.errors import InputError
from vdm.evaluation.metrics.extractors.classifier import Opened
from vdm.files import held
from vdm.noisy import OfConfig
from vdm.programs.classifier import check_labels, resolve, train_on
from vdm.programs.hooks import Evaluate, Log, Save
from vdm.runs.classifiers import open_classifier
from vdm.runs.records import read_evaluation, read_record, weights_digest

CACHE = "classifiers"
"""Name of the folder of the data's own classifiers, for `vdm.files.cache_folder`."""

LEAST_STEPS, MOST_STEPS = 250, 2000
PIXEL_STEPS = 2**19
"""Training steps times pixels of an image: a minute or two on two cores."""


def opener(dataset: Dataset | None, folder: Path | None, cache: Path | None, console: Console) -> Callable[[], Opened]:
    """Return a function that opens, once, the classifier in `folder` or else the data's own, for the extractor.

    The data's own is trained as `config_of` says, with a fixed seed and on all training images, so that all models of
    the same data are judged alike, whichever classifier guided them. It is kept in `cache`, if there is one, under a
    digest of the data and all settings; interrupted training is resumed.

    The function raises `InputError` if there is no classifier in `folder` or it was trained on other data than
    `dataset`, and, for the data's own, if the data have no labels or are not known (None).
    """
    return once(partial(_open, dataset, folder, cache, console))


def config_of(dataset: Dataset) -> ClassifierConfig:
    """Return the config of the data's own classifier: small, with a fixed seed and a fixed noise schedule."""
    pixels = math.prod(dataset.info.shape[:2])
    steps = min(max(PIXEL_STEPS // pixels, LEAST_STEPS), MOST_STEPS)
    return ClassifierConfig(
        data=DataConfig(name=dataset.info.name),
        network=ClassifierNetworkConfig(channels=16, depth=1),
        training=TrainingConfig(
            steps=steps, batch_size=64, log_every=250, evaluate_every=0, checkpoint_every=250, sample_every=0
        ),
        evaluation=EvaluationConfig(draws=1),
    )


def _open(dataset: Dataset | None, folder: Path | None, cache: Path | None, console: Console) -> Opened:
    if folder is not None:
        return _opened(folder, dataset)
    if dataset is None:
        raise InputError("a classifier: these images are not a data set to train one on; give --classifier=FOLDER")
    try:
        check_labels(dataset, "a classifier")
    except InputError as error:
        raise InputError(f"{error}; mmd needs no labels, nor does fid, with weights") from error
    if cache is not None:
        return _own(dataset, cache, console)
    with tempfile.TemporaryDirectory() as temporary:
        return _own(dataset, Path(temporary), console)


def _own(dataset: Dataset, cache: Path, console: Console) -> Opened:
    config = config_of(dataset)
    config = resolve(config, "the data", dataset, OfConfig(schedule="linear"))
    of = {name: value for name, value in dataset.info.to_dict().items() if name != "notes"}
    text = json.dumps({"config": asdict(config), "data": of}, sort_keys=True)
    folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
    with _held(folder):
        if not parallel.all_true(read_evaluation(folder).get("checkpoint_step") == config.training.steps):
            console.print(f"training a classifier on {dataset.info.name}, to compare images by: {folder}/")
            noise = config.of
            schedule = parts.make("schedule", noise.schedule, gamma_min=noise.gamma_min, gamma_max=noise.gamma_max)
            hooks = [Log(), Evaluate(), Save()]
            train_on(config, partial(schedule.gamma, {}), folder, dataset, hooks, console, ["dataset"])
        return _opened(folder, dataset)


def _opened(folder: Path, dataset: Dataset | None) -> Opened:
    classifier, variables = open_classifier(folder, None if dataset is None else dataset.info.to_dict())
    data = read_record(folder).get("data", {})
    of = f"{data.get('name')} {data.get('version')}"
    return Opened(classifier, variables, of, weights_digest(parallel.to_host(variables)))


def _held(folder: Path) -> AbstractContextManager[None]:
    """Wait while another process trains the same classifier."""
    return held(folder.with_suffix(".lock")) if parallel.is_main() else nullcontext()
