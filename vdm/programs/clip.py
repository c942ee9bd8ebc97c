"""`train_clip`: train an image–text model on a run's noisy images, with the training loop of every other task."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from vdm import image_text, parts
from vdm.data import Dataset
from vdm.data.dataset import Progress, Source, described
from vdm.data.selection import selected
from vdm.data.sources import resolve_others, resolve_shape
from vdm.data.texts import TEXT
from vdm.errors import InputError
from vdm.evaluation.retrieval import Retrieval, RetrievalEvaluator, Sets
from vdm.image_text import ImageTextConfig
from vdm.model import Model, at_precision
from vdm.noisy import OfConfig
from vdm.plots import classifiers as figures
from vdm.programs import on_noise
from vdm.programs.hooks import Hook
from vdm.programs.loop import run
from vdm.programs.on_noise import Evaluation, PlotByNoise, check_noise, data_of, gamma_of, noise_of, source_of
from vdm.programs.task import Task
from vdm.progress import progress_of
from vdm.runs.folder import differing_data
from vdm.runs.open import Run
from vdm.runs.places import home
from vdm.runs.records import checkpoint_steps, read_record
from vdm.runs.texts import read_text
from vdm.training.contrastive import Contrastive

TITLE = "Image–text model on noisy images"
COMPARED = 256
"""Number of training images of another data set that are looked up among the run's own."""


def default_config(path: Path) -> ImageTextConfig:
    """Return the config of an image–text model with the data and seed of the run in `path`.

    Raises `InputError` if there is no run.
    """
    of_run, data = data_of(path)
    return ImageTextConfig(seed=of_run.seed, imports=of_run.imports, data=data)


def train_clip(
    path: str | Path,
    config: ImageTextConfig | None = None,
    workdir: str | Path | None = None,
    checkpoint: str | int = "latest",
    dataset: Dataset | None = None,
    model: Model | None = None,
    hooks: Sequence[Hook] | None = None,
    console: Console | None = None,
) -> Retrieval:
    """Train, or resume, an image–text model on the noisy images of the run in `path`, and return its final evaluation.

        retrieval = train_clip("runs/digits")
        print(retrieval.image_to_text.uniform, retrieval.image_to_text.clean)

    The model sees the run's images, captions, split and noise: γ(t) is that of the run's averaged variables at a
    checkpoint, held fixed. For a run whose data have no captions, set `config.data.name` to a data set that has the
    same images with captions. `workdir` is the model's own folder, by default `clip` in the run's folder; `config` is
    `default_config(path)` by default. `dataset`, `model` and `hooks` are those of `train_classifier`.

    Raises `InputError` for bad input, `NonFiniteError` with the step and the term that is not finite, and `Stopped`
    after SIGTERM or Ctrl-C.
    """
    # Nothing is written before all input has been checked.
    path = Path(path)
    config = default_config(path) if config is None else config
    folder = home(path) / "clip" if workdir is None else Path(workdir)
    source = source_of(path, config, folder, checkpoint, dataset, model, console)
    with progress_of(source.console, "reading the data") as progress:
        dataset = source.run.load(progress, read_text(folder) if checkpoint_steps(folder) else None)
        check_images(source.own, dataset, progress)
    config = resolve(config, f"--run={path}", dataset, noise_of(source.run))
    clip, gamma = image_text.from_config(config), gamma_of(source.run)
    evaluated = at_precision(clip, config.evaluation.precision, "evaluation")
    task = Task(
        model=clip,
        for_training=at_precision(clip, config.training.precision, "training"),
        objective=Contrastive(gamma),
        evaluate=Evaluation(partial(RetrievalEvaluator, evaluated, gamma)),
    )
    hooks = standard() if hooks is None else hooks
    result: Retrieval = run(task, config, folder, dataset, hooks, source.console, source.given)
    return result


def standard() -> list[Hook]:
    """Return the default hooks: log, evaluate, plot, save."""
    return on_noise.standard(PlotByNoise("Contrastive loss", "retrieval", _draw))


def _draw(path: Path, result: Retrieval) -> None:
    found = {"caption of an image": result.image_to_text, "image of a caption": result.text_to_image}
    series = {name: (shares.by_gamma, shares.clean) for name, shares in found.items()}
    figures.by_gamma(path, result.edges, series, result.num_candidates, TITLE)


def resolve(config: ImageTextConfig, where: str, dataset: Dataset, noise: OfConfig) -> ImageTextConfig:
    """Return the config with the shape, levels and captions of the data and the γ of the noise filled in.

    Raises `InputError` for data without captions, or with fewer than two different ones in the test split, and for a
    config that contradicts the data or the noise; `where` names their origin in the message.
    """
    info, text = dataset.info, dataset.text
    if text is None:
        raise InputError(
            f"{where}: {info.name!r} has no captions; must have them, or --config.data.name must name the same images "
            "with captions"
        )
    if parts.canonical("text", config.data.text) != text.name:
        raise InputError(f"config.data.text={config.data.text!r}: must be {text.name!r}, as {where} has it")
    check_noise(config.of, noise, where)
    try:
        Sets(dataset.test)
    except InputError as error:
        raise InputError(f"{where}: {info.name!r}: {error}") from error
    data = resolve_others(
        resolve_shape(config.data, dataset), info.name, entries=described(dataset, [TEXT]), vocabulary=text.vocabulary
    )
    return replace(config, data=replace(data, text=text.name), of=noise)


def check_images(own: Run, dataset: Dataset, progress: Progress) -> None:
    """Raise `InputError` for data that are neither the run's own nor captions of the run's training images."""
    there, info = read_record(own.path).get("data", {}), dataset.info
    if info.name == there.get("name"):
        if differing := differing_data(there, info.to_dict()):
            raise InputError(f"--run={own.path}: was trained on other data: {', '.join(differing)}")
        return
    train = own.load(progress).train
    known, chosen = set(_digests(train, range(len(train)))), selected(len(dataset.train), COMPARED).tolist()
    if strange := sum(digest not in known for digest in _digests(dataset.train, chosen)):
        raise InputError(
            f"config.data.name={info.name!r}: {strange} of {len(chosen)} of its training images are not of "
            f"{there.get('name')!r}, the data of --run={own.path}; must be captions of the same images"
        )


def _digests(source: Source, indices: Sequence[int]) -> Iterator[int]:
    """Yield a hash of each of these images."""
    return (hash(np.asarray(source[index]["image"]).tobytes()) for index in indices)
