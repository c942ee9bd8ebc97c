"""Samples of a run without a checkpoint: its model is compiled in no time, and its variables are given."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import tiny
from rich.console import Console
from toy_model import Toy

from vdm import parallel
from vdm.config import Config, SamplingConfig, to_dict
from vdm.data import Dataset
from vdm.files import write_json
from vdm.programs import sample as program
from vdm.programs.sample import Sample
from vdm.runs import shards
from vdm.runs.open import Run

STEPS, SIZE = 3, 4

Make = Callable[..., Sample]


@pytest.fixture(scope="module")
def variables() -> Any:
    params = tiny.model().schedule.init(jax.random.key(0))
    return {"network": {"scale": jnp.float32(1)}, "schedule": params, "likelihood": {}}


@pytest.fixture
def make(tmp_path: Path, variables: Any, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A sample of settings, of a run without a checkpoint: its variables are given. Shards of four images."""
    config = tiny.config()
    config.sampling = SamplingConfig(num=10, steps=STEPS, batch_size=8, sampler="ddim(0.5)")
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run" / "config.json", to_dict(config))
    monkeypatch.setattr(shards, "SHARD", SIZE)
    mesh = parallel.make_mesh(2)
    toy = Toy(**vars(tiny.model()))

    def make(
        variables: Any = variables, num_steps: int | None = None, data: Dataset | None = None, **settings: Any
    ) -> Sample:
        def open_run(path: Path, checkpoint: str, config: Config) -> Run:
            return Run(path, config, toy, mesh, 7, variables, None, data)

        monkeypatch.setattr(program, "open_run", open_run)
        changed = replace(config, sampling=replace(config.sampling, **settings))
        changed.objective = replace(config.objective, num_steps=num_steps)
        return Sample(changed, tmp_path / "run", "latest", 0, Console(file=io.StringIO()))

    return make
