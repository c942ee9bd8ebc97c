"""A finished run of random numbers, without a checkpoint, and its released model."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import tiny

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, to_dict
from vdm.data import Arrays, Dataset, DatasetInfo
from vdm.files import write_json
from vdm.runs import cards
from vdm.runs.open import Run
from vdm.training import objective

STEP = 7
ABOUT = cards.About("tiny", "Apache-2.0", "CC0-1.0", "Random numbers", "no machine")


def dataset() -> Dataset:
    source = Arrays({"image": np.asarray(tiny.images(12))})
    info = DatasetInfo("npz:/home/me/mine.npz", "1", (4, 4, 1), 17, 12, 12, "all", "all", "none")
    return Dataset(info, source, source)


def config() -> Config:
    made = tiny.config()
    made.objective.proposal, made.schedule.name = "adaptive", "learned_linear"
    made.data.name, made.data.data_dir, made.training.steps = "npz:/home/me/mine.npz", "/home/me/data", STEP
    return made


def finished(path: Path) -> Run:
    """A run in the folder `path` that says it was trained to the end."""
    model = model_lib.from_config(config())
    proposal = jax.tree.map(lambda x: x + 1, objective.from_config(config()).init())
    run = Run(path, config(), model, parallel.make_mesh(), STEP, tiny.variables(model), proposal)
    path.mkdir(parents=True)
    write_json(path / "config.json", to_dict(config()))
    session: dict[str, Any] = {"command": ["train.py", f"--workdir={path}", "--config=/home/me/digits.py"]}
    write_json(path / "run.json", {"data": dataset().info.to_dict(), "sessions": [session]})
    write_json(path / "evaluation.json", evaluation(2.5, None))
    return run


def evaluation(total: float, num_steps: int | None, **more: Any) -> dict[str, Any]:
    """As vdm evaluate writes it."""
    numbers = {"bits_per_dim": {"total": total, "stderr": 0.25}, "num_images": 12, "num_draws": 4}
    return numbers | {"num_steps": num_steps, "checkpoint_step": STEP} | more


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
