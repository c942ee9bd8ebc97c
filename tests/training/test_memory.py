"""A device without the memory: one line that says what to lower, wherever it happens."""

import io
import json
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from rich.console import Console

from vdm import memory, parallel
from vdm.config import SamplingConfig
from vdm.data import Arrays
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.images import ImageSampler
from vdm.programs import loop
from vdm.programs.train import train

ERROR = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 72810199648 bytes."


def fail(*args: Any, **kwargs: Any) -> NoReturn:
    raise jax.errors.JaxRuntimeError(ERROR)


def test_the_training_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it was going to compute is what the config says, and its record."""
    config = tiny.run_config(tmp_path, steps=2)
    config.network.remat, config.training.precision = True, "bfloat16"
    config.schedule.name = "learned_monotone(hidden=4)"
    models = []

    def jit_train_step(model: Any, *rest: Any) -> Any:
        models.append(model)
        return jax.jit(fail)

    monkeypatch.setattr(loop, "jit_train_step", jit_train_step)
    with pytest.raises(InputError, match="the training step does not fit into the memory of a device") as caught:
        train(config, tmp_path / "run", console=Console(file=io.StringIO()))
    message = str(caught.value)
    for mention in ("72810199648 bytes", "training.batch_size", "accumulate", "remat", "fsdp"):
        assert mention in message
    assert len(message.splitlines()) == 1
    assert (models[0].network.dtype, models[0].network.remat) == (jnp.bfloat16, True)
    record = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"][0]["precision"]
    wanted = {"training": "bfloat16", "evaluation": "float32", "sampling": "tf32", "parameters": "float32"}
    assert record == wanted


def test_evaluation_and_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mesh = tiny.model(), parallel.make_mesh(8)
    evaluator, images = Evaluator(model, mesh, 8), Arrays({"image": np.asarray(tiny.images(8))})
    monkeypatch.setattr(evaluator, "_batch_bound", fail)
    with pytest.raises(InputError, match=r"evaluation does not fit .* lower config\.evaluation\.batch_size"):
        evaluator({}, images, jax.random.key(0), 1)
    sampler = ImageSampler(model, mesh, SamplingConfig(num=8, steps=2))
    monkeypatch.setattr(sampler, "_run", fail)
    with pytest.raises(InputError, match=r"sampling does not fit .* lower config\.sampling\.batch_size"):
        sampler({}, jax.random.key(0), 8)


def test_other_errors_of_devices_are_left_alone() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), memory.guarded("this", "that"):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")
