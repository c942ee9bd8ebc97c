"""Open a run on disk: its config, model, variables and data, ready for evaluation or sampling (`open_run`)."""

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
    """A checkpoint of a run, as returned by `open_run`."""

    path: Path
    config: Any
    """A `Config` or a `PredecessorConfig`."""
    model: Any
    """A `Model`, `LatentModel` or `LadderNetwork`, in float32."""
    mesh: Mesh
    step: int
    """Number of training steps of this checkpoint."""
    variables: Variables
    """The moving average of the model's variables, placed on the mesh."""
    proposal: Any
    """The objective's own state; for a diffusion model, that of the proposal for t."""
    given: Dataset | None = field(default=None, repr=False)
    """The data set passed to `open_run`, if any."""

    @cached_property
    def dataset(self) -> Dataset:
        """The data set passed to `open_run`, or else that of the config, loaded on first use.

        Raises `InputError` if it cannot be loaded, does not match the model's shape and levels, or has the name of the
        run's own data but different content.
        """
        return self.load()

    @property
    def name(self) -> str:
        """The run's name in records: its path, or `vdm:NAME`."""
        return name_of(self.path)

    @property
    def home(self) -> Path:
        """The default folder for results: the run's own, or runs/vdm_NAME for a released model, which is read-only."""
        return home(self.path)

    def load(self, progress: Progress | None = None, text: Text | None = None) -> Dataset:
        """Load `dataset`, reporting progress.

        `text` encodes the captions if the run does not specify an encoding.
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
        """Names of the labels of the training data; None if there are none."""
        return field_of(read_record(self.path), "data.classes", list[str] | None, self.path, None)

    @cached_property
    def text(self) -> Text | None:
        """The encoding of captions; None for data without captions. Raises `InputError` for a damaged text.json."""
        return read_text(self.path)

    def conditions(self, sampling: SamplingConfig, seed: int) -> Conditions:
        """Return the conditions for sampling with this seed, from the labels, text and guidance of `sampling`.

        For diffusion models only. Raises `InputError` for settings that the model does not support.
        """
        text = text_of(self.path, parts.make("guidance", sampling.guidance))
        return requested(self.model, sampling, seed, self.classes, lambda: self.dataset.test, text)

    def key(self, stream: Stream, seed: int | None = None) -> PRNGKeyArray:
        """Return the initial key of a random stream, for the run's seed or another one."""
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
    """Open the run in the folder `path` at a checkpoint: `latest`, `best` (by test bits/dim during training) or a step.

    `path` may also be `vdm:NAME`, a released model (`vdm.runs.places`), which has a single checkpoint. The run may be
    that of a diffusion model or of a predecessor (`vdm.predecessors`); `kind`, a config class, restricts it to one of
    them.

        run = vdm.open_run("runs/digits")
        denoise = run.model.denoiser(run.variables)
        eps_hat = denoise(z, gamma)                # z: (batch, *run.model.shape), gamma: scalar or (batch,)

    `config` replaces the run's own config: it may change sampling and evaluation or name other data, but must describe
    the same model. The variables are placed on `mesh` (default: all devices). Pass `dataset` and `model` if they were
    passed to `vdm.train`; the model is checked by the names and shapes of its variables.

    Raises `InputError` if there is no such run or checkpoint, it cannot be read, or it is of a different model.
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
        # Fields that are filled in from the data.
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
    """Restore a checkpoint of a run, or the weights of a released model."""
    if is_released(path):
        return read_weights(path, checkpoint, like)
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_one(like, checkpoint)


def steps(path: Path) -> list[int]:
    """Return the steps of a run's checkpoints, oldest first; a released model has one."""
    if is_released(path):
        return [field_of(read_record(path), "step", int, path)]
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.steps()


def _given(record: dict[str, Any]) -> list[str]:
    """Return which objects the caller supplied in the run's last session; see `session_record`."""
    sessions = record.get("sessions", [])
    return list(sessions[-1].get("given", [])) if sessions else []


def _abstract(model: Trainable, objective: Objective, mesh: Mesh) -> Trained:
    """Return shapes, dtypes and shardings of what is read from a checkpoint."""

    def make() -> Trained:
        return Trained(jnp.zeros((), jnp.int32), model.init(stream_key(0, Stream.INIT)), objective.init())

    return parallel.abstract(make, mesh)
