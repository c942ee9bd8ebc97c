"""Open a classifier from disk, to guide a sampler or to judge samples (`open_classifier`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from vdm import classifier as classifier_lib
from vdm import parallel
from vdm.classifier import Classifier, ClassifierConfig
from vdm.errors import InputError
from vdm.keys import Stream, stream_key
from vdm.model import Variables
from vdm.runs.checkpoints import Checkpoints
from vdm.runs.folder import differing_data
from vdm.runs.records import read_config, read_record
from vdm.training.state import Trained
from vdm.training.task import Trainable


def open_classifier(
    path: str | Path,
    data: Mapping[str, Any] | None = None,
    checkpoint: str | int = "latest",
    *,
    mesh: Mesh | None = None,
) -> tuple[Classifier, Variables]:
    """Open the classifier that `vdm classifier` saved in `path`; return it with the moving average of its variables.

        classifier, variables = open_classifier("runs/digits/classifier", read_record(run.path)["data"])
        log_prob = classifier.log_prob(variables, z, gamma)      # (batch, classes)

    `data` is the record (`DatasetInfo.to_dict()`) of the data that it must have been trained on: shape, levels, classes
    and version are compared. `checkpoint` is `latest`, `best` (by cross-entropy during training) or a step. The
    variables are placed on `mesh`.

    Raises `InputError` if there is no classifier, it cannot be read, or it was trained on other data.
    """
    path = Path(path)
    config: ClassifierConfig = read_config(path, ClassifierConfig)
    there = read_record(path).get("data", {})
    if data is not None and (differing := differing_data(there, dict(data))):
        raise InputError(f"{path}: is a classifier of other data: {', '.join(differing)}")
    classifier = classifier_lib.from_config(config)
    return classifier, restored(path, classifier, checkpoint, mesh)


def restored(path: Path, model: Trainable, checkpoint: str | int, mesh: Mesh | None) -> Variables:
    """Restore the moving average of the variables of a model trained on noisy images. May raise `InputError`."""
    mesh = parallel.make_mesh() if mesh is None else mesh

    def make() -> Trained:
        return Trained(jnp.zeros((), jnp.int32), model.init(stream_key(0, Stream.INIT)), {})

    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        trained = checkpoints.restore_one(parallel.abstract(make, mesh), str(checkpoint))
    return trained.ema
