"""Folders of runs that were never trained: what the report reads of them."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from vdm.config import Config, DataConfig, TrainingConfig, to_dict
from vdm.files import write_json

STEPS = 400
LOSSES = {"reconstruction": 0.2, "prior": 0.004, "diffusion": 1.6}


def make_run(folder: Path, steps: int = STEPS, done: bool = True, **training: Any) -> Path:
    """A finished run, or one in the middle, with everything that a report shows but a checkpoint."""
    config = Config(
        data=DataConfig(name="digits", shape=(8, 8, 1), levels=17),
        training=TrainingConfig(steps=steps, batch_size=16, **training),
    )
    data = {"name": "digits", "version": "1.0.0", "shape": [8, 8, 1], "levels": 17, "num_train": 1497, "num_test": 300}
    (folder / "samples").mkdir(parents=True)
    (folder / "plots").mkdir()
    write_json(folder / "config.json", to_dict(config))
    session = {
        "command": ["vdm train", "--config=digits"],
        "devices": {"platform": "cpu", "kind": "cpu", "num_devices": 2},
        "precision": {"training": "tf32"},
        "python": "3.11.7",
        "versions": {"jax": "0.10.2", "flax": "0.12.8"},
        "git_revision": "0123456789abcdef-dirty",
    }
    write_json(folder / "run.json", {"config": to_dict(config), "data": data, "sessions": [session]})
    last = steps if done else steps // 2
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records(last, done)))
    for step in (100, 200):
        draw(folder / "samples" / f"step_{step:08d}.png", step)
    draw(folder / "plots" / "data.png", 40)
    times = {"t": [0.25, 0.75], "mean": [1.9, None], "std": [0.3, None]}
    write_json(
        folder / "plots" / "curves.json",
        {"schedule": {"t": [0.0, 0.5, 1.0], "gamma": [-7.0, -3.0, 5.0]}, "times": times},
    )
    if done:
        draw(folder / "samples" / "final.png", 250)
        write_json(folder / "evaluation.json", evaluation(steps))
    return folder


def records(last: int, done: bool) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl: training every 5 steps, tests every 100; the first losses are high."""
    lines: list[dict[str, Any]] = []
    for step in range(5, last + 1, 5):
        terms = {name: value * (1 + 40 / step) for name, value in LOSSES.items()}
        rest = {"images_per_second": 800.0, "learning_rate": 2e-4, "grad_norm": 3.0 + 10 / step}
        lines.append({"kind": "train", "step": step, "bits_per_dim": sum(terms.values())} | terms | rest)
        if step % 100 == 0:
            test = {"bits_per_dim": sum(terms.values()), "stderr": 0.02, "variance": 0.5}
            lines.append({"kind": "evaluation", "step": step} | terms | test)
    if done:
        lines.append({"kind": "final", "step": last, "bits_per_dim": 1.83, "stderr": 0.014} | LOSSES)
    return lines


def evaluation(step: int, total: float = 1.8304) -> dict[str, Any]:
    """What evaluation.json has."""
    bits = {"total": total, "stderr": 0.0142, "noise_stderr": None} | LOSSES
    return {"bits_per_dim": bits, "num_images": 300, "num_draws": 20, "num_steps": None, "checkpoint_step": step}


def draw(path: Path, grey: int) -> None:
    """A picture of one grey."""
    Image.new("L", (60, 40), grey).save(path)
