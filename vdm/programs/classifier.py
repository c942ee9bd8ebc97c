"""`train_classifier`: a classifier on a run's noisy images, by the training loop of all tasks."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax.numpy as jnp
from rich.console import Console

from vdm import classifier as classifier_lib
from vdm import parallel, parts, plots, settings
from vdm.classifier import Classifier, ClassifierConfig, OfConfig, Schedule
from vdm.config import validate
from vdm.data import Dataset
from vdm.data.dataset import NO_LABELS
from vdm.data.selection import VERSION
from vdm.errors import InputError
from vdm.evaluation.accuracy import Accuracy, AccuracyEvaluator
from vdm.files import check_writable
from vdm.keys import Stream
from vdm.model import Model
from vdm.plots import classifiers as figures
from vdm.programs import streams
from vdm.programs.hooks import Evaluate, Hook, Log, Plot, Save, extent, heeding_progress
from vdm.programs.loop import run
from vdm.programs.session import Session
from vdm.programs.task import Task
from vdm.progress import progress_of
from vdm.runs.folder import differing_data
from vdm.runs.open import Run, open_run
from vdm.runs.records import read_config, read_metrics, read_record, weights_digest
from vdm.training.classification import CrossEntropy


def default_config(path: Path) -> ClassifierConfig:
    """Of a classifier for the run in `path`: on its data, with its seed. Raises `InputError` if there is no run."""
    of_run = read_config(path)
    data = replace(of_run.data, classes=None, entries=None)
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
    """Trains, or goes on training, a classifier on the noisy images of the run in `path`; returns its final evaluation.

        accuracy = train_classifier("runs/digits")
        print(accuracy.accuracy, accuracy.clean)

    Images, their split and their noise are the run's: γ(t) is that of its averaged variables at a checkpoint, held
    fixed. `workdir` is the classifier's own folder, by default `classifier` in that of the run; `config` is by default
    `default_config(path)`. `dataset` and `model` are for a run that `vdm.train` was given such to; `hooks` are as
    there, by default `standard()`.

    Raises `InputError` for bad input, `NonFiniteError` with step and term, and `Stopped` after SIGTERM or Ctrl-C.
    """
    # Nothing is written before all input has been checked.
    path = Path(path)
    config = default_config(path) if config is None else config
    validate(config)
    folder = path / "classifier" if workdir is None else Path(workdir)
    console = streams.make_console(quiet=not parallel.is_main()) if console is None else console
    parallel.on_main(lambda: check_writable(folder, "--workdir"))
    of_run = read_config(path)
    kept = {name: getattr(of_run.data, name) for name in ("shape", "levels", "classes", "entries")}
    source = open_run(
        path, checkpoint, config=replace(of_run, data=replace(config.data, **kept)), dataset=dataset, model=model
    )
    given = [] if dataset is None or dataset.info.name != source.config.data.name else ["dataset"]
    with progress_of(console, "reading the data") as progress:
        dataset = source.load(progress)
    if differing := differing_data(read_record(path).get("data", {}), dataset.info.to_dict()):
        raise InputError(f"--run={path}: was trained on other data: {', '.join(differing)}")
    config = resolve(config, f"--run={path}", dataset, noise_of(source))
    return train_on(config, gamma_of(source), folder, dataset, hooks, console, given)


def train_on(
    config: ClassifierConfig,
    gamma: Schedule,
    folder: Path,
    dataset: Dataset,
    hooks: Sequence[Hook] | None,
    console: Console,
    given: Sequence[str] = (),
) -> Accuracy:
    """Trains, or goes on training, a classifier on the noisy images of any data and γ(t).

    The config is what `resolve` returns for them; the rest and what it raises are as of `train_classifier`.
    """
    classifier = classifier_lib.from_config(config)
    task = Task(
        model=classifier,
        for_training=classifier_lib.at_precision(classifier, config.training.precision, "training"),
        objective=CrossEntropy(gamma),
        evaluate=_Evaluate(classifier_lib.at_precision(classifier, config.evaluation.precision, "evaluation"), gamma),
    )
    result: Accuracy = run(task, config, folder, dataset, standard() if hooks is None else hooks, console, given)
    return result


def standard() -> list[Hook]:
    """What is done beside the steps: log, evaluate, plot, save."""
    return [Log(), Evaluate(), PlotAccuracy(), Save()]


def resolve(config: ClassifierConfig, where: str, dataset: Dataset, noise: OfConfig) -> ClassifierConfig:
    """The config with what the data and the noise are: shape, levels, classes and γ.

    Raises `InputError`, which names the data's place by `where`, for data without labels, and for a config that asks
    for others.
    """
    info = dataset.info
    check_labels(dataset, where)
    classes = len(info.classes or ())
    if config.data.classes not in (None, classes):
        raise InputError(f"config.data.classes={config.data.classes}: must be {classes}, as {info.name!r} has them")
    given, differing = (settings.differing(config.of, other, "model") for other in (OfConfig(), noise))
    for name in given.keys() & differing.keys():
        here, there = differing[name]
        raise InputError(f"config.of.{name}={here!r}: must be {there!r}, as {where} has it")
    data = replace(config.data, shape=tuple(info.shape), levels=info.levels, classes=classes)
    return replace(config, data=data, of=noise)


def check_labels(dataset: Dataset, where: str) -> None:
    """Raises `InputError`, which begins with `where`, for data without labels, of which there is no classifier."""
    info = dataset.info
    if info.classes is None or any("label" not in split[0] for split in (dataset.train, dataset.test)):
        why = next(
            (note for note in info.notes if note.startswith(NO_LABELS)), NO_LABELS + "needed is one for each image"
        )
        raise InputError(f"{where}: its data, {info.name!r}, have {why}")


def noise_of(source: Run) -> OfConfig:
    """What a classifier records of the run that it is for."""
    low, high = (round(float(gamma), 3) for gamma in gamma_of(source)(jnp.asarray([0.0, 1.0])))
    digest = weights_digest(parallel.to_host(source.variables["schedule"]))
    name = parts.canonical("schedule", source.config.schedule.name)
    return OfConfig(str(source.path), source.step, f"{name} {digest}", low, high)


def gamma_of(source: Run) -> Schedule:
    """t -> γ(t) of the run's averaged variables, held fixed."""
    return partial(source.model.schedule.gamma, parallel.to_host(source.variables["schedule"]))


class _Evaluate:
    """The classifier's `Task.evaluate`, compiled once."""

    def __init__(self, classifier: Classifier, gamma: Schedule):
        self._classifier, self._gamma = classifier, gamma
        self._evaluator: AccuracyEvaluator | None = None

    def __call__(self, session: Session, kind: str, num_draws: int, max_images: int) -> Accuracy:
        session.heed()
        if self._evaluator is None:
            batch_size = session.config.evaluation.batch_size
            self._evaluator = AccuracyEvaluator(self._classifier, self._gamma, session.mesh, batch_size)
        key, images = session.key(Stream.EVALUATION), session.dataset.test
        with heeding_progress(session, "final evaluation" if kind == "final" else "evaluating") as progress:
            result = self._evaluator(session.variables, images, key, num_draws, max_images, progress)
        session.record(
            kind,
            cross_entropy=result.cross_entropy.value,
            stderr=result.cross_entropy.stderr,
            accuracy=result.accuracy.value,
            accuracy_stderr=result.accuracy.stderr,
            accuracy_clean=result.clean.value,
            accuracy_clean_stderr=result.clean.stderr,
            # Of all images, nothing: only numbers of the same images compare.
            **({} if result.num_images == len(images) else {"sample": VERSION}),
        )
        final = "final " if kind == "final" else ""
        line = f"step {session.step}  {final}test {result} ({extent(result, len(images))})"
        session.console.print(line, style="bold", soft_wrap=True)
        session.evaluation = result
        return result


class PlotAccuracy(Plot):
    """plots/: the cross-entropy so far, and the accuracy by γ, after each evaluation."""

    def __call__(self, session: Session) -> None:
        result = session.evaluation
        if not session.is_main or result is None:
            return
        folder, records = session.path / "plots", read_metrics(session.path / "metrics.jsonl")
        plots.loss(folder / "loss.png", records, "cross_entropy", "nats", "Cross-entropy")
        values = [None if share is None else share.value for share in result.by_gamma]
        errors = [None if share is None else share.stderr for share in result.by_gamma]
        figures.accuracy(folder / "accuracy.png", result.edges, values, errors, result.clean.value, result.num_classes)
        session.show("accuracy", folder / "accuracy.png")
