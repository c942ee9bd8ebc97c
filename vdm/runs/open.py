"""`open_run`: a run on disk as its config, model, variables and data, ready to evaluate or to sample from."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from vdm import model as model_lib
from vdm import parallel, parts
from vdm.config import Config, validate
from vdm.data import Dataset, load, resolve
from vdm.data.dataset import Progress
from vdm.errors import InputError
from vdm.evaluation.conditions import Conditions
from vdm.keys import Stream, stream_key
from vdm.model import Model, Variables
from vdm.proposals import Proposal
from vdm.reading import field as field_of
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.folder import check_same_data, check_same_model
from vdm.runs.records import read_config, read_record
from vdm.training import objective
from vdm.training.state import Trained


def split_checkpoint(text: str) -> tuple[Path, str]:
    """The folder and the checkpoint of RUN or RUN:CHECKPOINT; a folder's name may have a colon.

    >>> split_checkpoint("runs/digits:1000")
    (PosixPath('runs/digits'), '1000')
    """
    run, colon, checkpoint = text.rpartition(":")
    return (Path(text), "latest") if not colon or Path(text).is_dir() else (Path(run), checkpoint)


@dataclass(frozen=True)
class Run:
    """A checkpoint of a run: what `open_run` returns."""

    path: Path
    config: Config
    model: Model
    """float32."""
    mesh: Mesh
    step: int
    """Steps that it was trained for."""
    variables: Variables
    """The moving average of the model's variables, over the mesh."""
    proposal: Any
    """State of the objective's proposal."""
    given: Dataset | None = field(default=None, repr=False)
    """The data that `open_run` was given."""

    @cached_property
    def dataset(self) -> Dataset:
        """The data set of the config, loaded on first use, or the one given.

        Raises `InputError` if it cannot be had, its images are not of the model's shape and levels, or it has the name
        of the run's own data and is not the same.
        """
        return self.load()

    def load(self, progress: Progress | None = None) -> Dataset:
        """`dataset`, for a program that shows how far reading it is."""
        record, name = read_record(self.path), self.config.data.name
        own = record.get("data", {}).get("name")
        if self.given is None and name == own and "dataset" in _given(record):
            raise InputError(f"{self.path}: was trained on data of its caller, {name!r}: open_run(…, dataset=…)")
        dataset = load(self.config.data, progress) if self.given is None else self.given
        resolve(self.config, dataset)
        if dataset.info.name == own:
            check_same_data(record, dataset.info.to_dict(), self.path)
        self.__dict__["dataset"] = dataset  # where cached_property keeps it
        return dataset

    @property
    def classes(self) -> list[str] | None:
        """Names of the labels of the data that it was trained on; None where these have none."""
        return field_of(read_record(self.path), "data.classes", list[str] | None, self.path, None)

    def conditions(self, labels: str | None, seed: int, guidance: str = "none") -> Conditions:
        """The conditions of images of a seed, by `labels` and `guidance` as in `config.sampling`.

        Raises `InputError` for others.
        """
        by_classifier = parts.make("guidance", guidance).by_classifier
        return Conditions(self.model, labels, self.classes, lambda: self.dataset.test, seed, by_classifier)

    def key(self, stream: Stream, seed: int | None = None) -> PRNGKeyArray:
        """The key that a stream of the run's seed, or of another, starts from."""
        return stream_key(self.config.seed if seed is None else seed, stream)


def open_run(
    path: str | Path,
    checkpoint: str | int = "latest",
    *,
    config: Config | None = None,
    mesh: Mesh | None = None,
    dataset: Dataset | None = None,
    model: Model | None = None,
) -> Run:
    """The run in the folder `path` as of a checkpoint: `latest`, `best` by test bits/dim while training, or a step.

        run = vdm.open_run("runs/digits")
        denoise = run.model.denoiser(run.variables)
        eps_hat = denoise(z, gamma)                # z: (batch, *run.model.shape), gamma: scalar or (batch,)

    `config` takes the place of the run's own: it may sample and evaluate otherwise, or name other data, but must be of
    the same model. `mesh` is where the variables go (default: all devices). `dataset` and `model` are for a run that
    `vdm.train` was given such to; a model is checked by the names and shapes of its variables.

    Raises `InputError` if there is no such run or checkpoint, it cannot be read, or it is of another model.
    """
    path, saved = Path(path), read_config(Path(path))
    if config is None:
        config = saved
    else:
        validate(config)
        # What the data fill in.
        filled = {
            name: getattr(config.data, name) or getattr(saved.data, name)
            for name in ("shape", "levels", "entries", "classes")
        }
        config = replace(config, data=replace(config.data, **filled))
        check_same_model(saved, config, path)
    if model is None and "model" in _given(read_record(path)):
        raise InputError(f"{path}: was trained with a model of its caller: open_run(…, model=…)")
    model = model_of(config, model)
    mesh = parallel.make_mesh() if mesh is None else mesh
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        trained = checkpoints.restore_one(
            _abstract(model, objective.from_config(config).proposal, mesh), str(checkpoint)
        )
    return Run(path, config, model, mesh, int(trained.step), trained.ema, trained.proposal, dataset)


def model_of(config: Config, given: Model | None = None) -> Model:
    """The model of a config, or the given one, computed in float32.

    Raises `InputError` if that is of other images or steps, and for a `precision` that its network cannot compute in.
    """
    model = model_lib.from_config(config) if given is None else model_lib.at_precision(given, "float32", "evaluation")
    for group in ("training", "evaluation", "sampling"):
        model_lib.at_precision(model, getattr(config, group).precision, group)
    if given is None:
        return model
    data = config.data
    for field_name, of_config, of_model in (
        ("data.shape", data.shape, tuple(given.shape)),
        ("data.levels", data.levels, given.levels),
        ("objective.num_steps", config.objective.num_steps, given.num_steps),
    ):
        if of_config != of_model:
            raise InputError(f"config.{field_name}={of_config!r}: must be {of_model!r}, as the model given has it")
    return model


def _given(record: dict[str, Any]) -> list[str]:
    """What the caller made of a run's last session; see `session_record`."""
    sessions = record.get("sessions", [])
    return list(sessions[-1].get("given", [])) if sessions else []


def _abstract(model: Model, proposal: Proposal, mesh: Mesh) -> Trained:
    """Shapes, types and shardings of what is read of a checkpoint."""

    def make() -> Trained:
        return Trained(jnp.zeros((), jnp.int32), model.init(stream_key(0, Stream.INIT)), proposal.init())

    return parallel.abstract(make, mesh)
