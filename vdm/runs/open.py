"""`open_run`: a run on disk as its config, model, variables and data, ready to evaluate or to sample from."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from vdm import parallel, parts
from vdm.config import SamplingConfig, validate
from vdm.data import Dataset, load
from vdm.data.dataset import Progress
from vdm.data.texts import Text, encoded
from vdm.errors import InputError
from vdm.evaluation.conditions import Conditions, requested
from vdm.keys import Stream, stream_key
from vdm.model import Variables
from vdm.reading import field as field_of
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.folder import check_same_data, check_same_model
from vdm.runs.kinds import model_of, objective_of, resolve
from vdm.runs.places import home, is_released, located, name_of
from vdm.runs.records import RUNS, read_config, read_record
from vdm.runs.released import check_files, read_weights
from vdm.runs.texts import read_text, text_of
from vdm.training.state import Trained
from vdm.training.task import Objective, Trainable


@dataclass(frozen=True)
class Run:
    """A checkpoint of a run: what `open_run` returns."""

    path: Path
    config: Any
    """A `Config`, or a `PredecessorConfig`."""
    model: Any
    """The `Model`, or the `LatentModel` or `LadderNetwork`, float32."""
    mesh: Mesh
    step: int
    """Steps that it was trained for."""
    variables: Variables
    """The moving average of the model's variables, over the mesh."""
    proposal: Any
    """What the objective carries: of a diffusion model's, the state of its proposal."""
    given: Dataset | None = field(default=None, repr=False)
    """The data that `open_run` was given."""

    @cached_property
    def dataset(self) -> Dataset:
        """The data set of the config, loaded on first use, or the one given.

        Raises `InputError` if it cannot be had, its images are not of the model's shape and levels, or it has the name
        of the run's own data and is not the same.
        """
        return self.load()

    @property
    def name(self) -> str:
        """What records call it: its path, or `vdm:NAME`."""
        return name_of(self.path)

    @property
    def home(self) -> Path:
        """Where results go by default: its folder, or runs/vdm_NAME for a released model, which is only read."""
        return home(self.path)

    def load(self, progress: Progress | None = None, text: Text | None = None) -> Dataset:
        """`dataset`, for a program that shows how far reading it is.

        `text` encodes captions where the run does not say how.
        """
        record, name = read_record(self.path), self.config.data.name
        own = record.get("data", {}).get("name")
        if self.given is None and name == own and "dataset" in _given(record):
            raise InputError(f"{self.path}: was trained on data of its caller, {name!r}: open_run(…, dataset=…)")
        if self.given is None:
            dataset = load(self.config.data, progress, self.text or text)
        else:
            dataset = encoded(self.given, self.text or text or self.config.data.text)
        resolve(self.config, dataset)
        if dataset.info.name == own:
            check_same_data(record, dataset.info.to_dict(), self.path)
        self.__dict__["dataset"] = dataset  # where cached_property keeps it
        return dataset

    @property
    def classes(self) -> list[str] | None:
        """Names of the labels of the data that it was trained on; None where these have none."""
        return field_of(read_record(self.path), "data.classes", list[str] | None, self.path, None)

    @cached_property
    def text(self) -> Text | None:
        """How its captions were encoded; None of data without captions. Raises `InputError` for a damaged text.json."""
        return read_text(self.path)

    def conditions(self, sampling: SamplingConfig, seed: int) -> Conditions:
        """Of a diffusion model, the conditions of images of a seed, as `config.sampling` has labels, text and guidance.

        Raises `InputError` for others.
        """
        text = text_of(self.path, parts.make("guidance", sampling.guidance))
        return requested(self.model, sampling, seed, self.classes, lambda: self.dataset.test, text)

    def key(self, stream: Stream, seed: int | None = None) -> PRNGKeyArray:
        """The key that a stream of the run's seed, or of another, starts from."""
        return stream_key(self.config.seed if seed is None else seed, stream)


def open_run(
    path: str | Path,
    checkpoint: str | int = "latest",
    *,
    config: Any = None,
    kind: type | None = None,
    mesh: Mesh | None = None,
    dataset: Dataset | None = None,
    model: Any = None,
) -> Run:
    """The run in the folder `path` as of a checkpoint: `latest`, `best` by test bits/dim while training, or a step.

    `path` may be `vdm:NAME`, a released model (`vdm.runs.places`), which has one checkpoint. The run is one of a
    diffusion model, or of a predecessor (`vdm.predecessors`); with `kind`, the class of its config, of that alone.

        run = vdm.open_run("runs/digits")
        denoise = run.model.denoiser(run.variables)
        eps_hat = denoise(z, gamma)                # z: (batch, *run.model.shape), gamma: scalar or (batch,)

    `config` takes the place of the run's own: it may sample and evaluate otherwise, or name other data, but must be of
    the same model. `mesh` is where the variables go (default: all devices). `dataset` and `model` are for a run that
    `vdm.train` was given such to; a model is checked by the names and shapes of its variables.

    Raises `InputError` if there is no such run or checkpoint, it cannot be read, or it is of another model.
    """
    path = located(path)
    if is_released(path):
        check_files(path)
    wanted = RUNS if kind is None and config is None else (kind or type(config),)
    saved = read_config(path, *wanted)
    if config is None:
        config = saved
    else:
        validate(config)
        # What the data fill in.
        filled = {
            name: getattr(config.data, name) or getattr(saved.data, name)
            for name in ("shape", "levels", "entries", "classes", "vocabulary")
        }
        config = replace(config, data=replace(config.data, **filled))
        check_same_model(saved, config, path)
    if model is None and "model" in _given(read_record(path)):
        raise InputError(f"{path}: was trained with a model of its caller: open_run(…, model=…)")
    model = model_of(config, model)
    mesh = parallel.make_mesh() if mesh is None else mesh
    trained = _restored(path, str(checkpoint), _abstract(model, objective_of(config), mesh))
    return Run(path, config, model, mesh, int(trained.step), trained.ema, trained.proposal, dataset)


def _restored(path: Path, checkpoint: str, like: Trained) -> Trained:
    """A checkpoint of a run, or the weights of a released model."""
    if is_released(path):
        return read_weights(path, checkpoint, like)
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_one(like, checkpoint)


def steps(path: Path) -> list[int]:
    """Steps of the checkpoints of the run in `path`, oldest first; of a released model its one."""
    if is_released(path):
        return [field_of(read_record(path), "step", int, path)]
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.steps()


def _given(record: dict[str, Any]) -> list[str]:
    """What the caller made of a run's last session; see `session_record`."""
    sessions = record.get("sessions", [])
    return list(sessions[-1].get("given", [])) if sessions else []


def _abstract(model: Trainable, objective: Objective, mesh: Mesh) -> Trained:
    """Shapes, types and shardings of what is read of a checkpoint."""

    def make() -> Trained:
        return Trained(jnp.zeros((), jnp.int32), model.init(stream_key(0, Stream.INIT)), objective.init())

    return parallel.abstract(make, mesh)
