"""`train_classifier`: train a classifier on a run's noisy images, with the training loop of every other task."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from vdm import classifier as classifier_lib
from vdm.classifier import ClassifierConfig
from vdm.data import Dataset
from vdm.data.dataset import NO_LABELS
from vdm.errors import InputError
from vdm.evaluation.accuracy import Accuracy, AccuracyEvaluator
from vdm.model import Model, at_precision
from vdm.noisy import OfConfig, Schedule
from vdm.plots import classifiers as figures
from vdm.programs import on_noise
from vdm.programs.hooks import Hook
from vdm.programs.loop import run
from vdm.programs.on_noise import Evaluation, PlotByNoise, check_noise, data_of, gamma_of, noise_of, source_of
from vdm.programs.task import Task
from vdm.progress import progress_of
from vdm.runs.folder import differing_data
from vdm.runs.places import home
from vdm.runs.records import read_record
from vdm.training.classification import CrossEntropy

TITLE = "Classifier on noisy images"


def default_config(path: Path) -> ClassifierConfig:
    """Return the config of a classifier with the data and seed of the run in `path`.

    Raises `InputError` if there is no run.
    """
    of_run, data = data_of(path)
    return ClassifierConfig(seed=of_run.seed, imports=of_run.imports, data=data)


def train_classifier(
    path: str | Path,
    config: ClassifierConfig | None = None,
    workdir: str | Path | None = None,
    checkpoint: str | int = "latest",
    dataset: Dataset | None = None,
    model: Model | None = None,
    hooks: Sequence[Hook] | None = None,
    console: Console | None = None,
) -> Accuracy:
    """Train, or resume, a classifier on the noisy images of the run in `path`, and return its final evaluation.

        accuracy = train_classifier("runs/digits")
        print(accuracy.accuracy, accuracy.clean)

    The classifier sees the run's images, split and noise: γ(t) is that of the run's averaged variables at a checkpoint,
    held fixed. `workdir` is the classifier's own folder, by default `classifier` in the run's folder; `config` is
    `default_config(path)` by default. If `vdm.train` was called with a `dataset` or a `model` of yours for the run,
    pass the same ones here. `hooks` are those of `vdm.train`, by default `standard()`.

    Raises `InputError` for bad input, `NonFiniteError` with the step and the term that is not finite, and `Stopped`
    after SIGTERM or Ctrl-C.
    """
    # Nothing is written before all input has been checked.
    path = Path(path)
    config = default_config(path) if config is None else config
    folder = home(path) / "classifier" if workdir is None else Path(workdir)
    source = source_of(path, config, folder, checkpoint, dataset, model, console)
    with progress_of(source.console, "reading the data") as progress:
        dataset = source.run.load(progress)
    if differing := differing_data(read_record(path).get("data", {}), dataset.info.to_dict()):
        raise InputError(f"--run={path}: was trained on other data: {', '.join(differing)}")
    config = resolve(config, f"--run={path}", dataset, noise_of(source.run))
    return train_on(config, gamma_of(source.run), folder, dataset, hooks, source.console, source.given)


def train_on(
    config: ClassifierConfig,
    gamma: Schedule,
    folder: Path,
    dataset: Dataset,
    hooks: Sequence[Hook] | None,
    console: Console,
    given: Sequence[str] = (),
) -> Accuracy:
    """Train, or resume, a classifier on noisy images of any data set with any γ(t).

    `config` is what `resolve` returns for them. The other arguments and exceptions are those of `train_classifier`.
    """
    classifier = classifier_lib.from_config(config)
    evaluated = at_precision(classifier, config.evaluation.precision, "evaluation")
    task = Task(
        model=classifier,
        for_training=at_precision(classifier, config.training.precision, "training"),
        objective=CrossEntropy(gamma),
        evaluate=Evaluation(partial(AccuracyEvaluator, evaluated, gamma)),
    )
    result: Accuracy = run(task, config, folder, dataset, standard() if hooks is None else hooks, console, given)
    return result


def standard() -> list[Hook]:
    """Return the default hooks: log, evaluate, plot, save."""
    return on_noise.standard(PlotByNoise("Cross-entropy", "accuracy", _draw))


def _draw(path: Path, result: Accuracy) -> None:
    figures.by_gamma(path, result.edges, {"test images": (result.by_gamma, result.clean)}, result.num_classes, TITLE)


def resolve(config: ClassifierConfig, where: str, dataset: Dataset, noise: OfConfig) -> ClassifierConfig:
    """Return the config with the shape, levels and classes of the data and the γ of the noise filled in.

    Raises `InputError` for data without labels, and for a config that contradicts the data or the noise; `where` names
    their origin in the message.
    """
    info = dataset.info
    check_labels(dataset, where)
    classes = len(info.classes or ())
    if config.data.classes not in (None, classes):
        raise InputError(f"config.data.classes={config.data.classes}: must be {classes}, as {info.name!r} has them")
    check_noise(config.of, noise, where)
    data = replace(config.data, shape=tuple(info.shape), levels=info.levels, classes=classes)
    return replace(config, data=data, of=noise)


def check_labels(dataset: Dataset, where: str) -> None:
    """Raise `InputError`, beginning with `where`, for data without labels, which no classifier can be trained on."""
    info = dataset.info
    if info.classes is None or any("label" not in split[0] for split in (dataset.train, dataset.test)):
        why = next(
            (note for note in info.notes if note.startswith(NO_LABELS)),
            NO_LABELS + "a classifier needs one for each image",
        )
        raise InputError(f"{where}: its data, {info.name!r}, have {why}")
