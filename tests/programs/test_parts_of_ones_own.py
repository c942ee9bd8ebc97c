"""A module with a schedule, a sampler, a grid and a network of one's own, as the programs take it: --import."""

import json
import subprocess
from pathlib import Path

import commands
import numpy as np
import pytest

MODULE = '''
"""Parts for a test."""

import flax.linen as nn
from vdm import parts, samplers, schedules
from vdm.samplers.grids import Grid


def bent(gamma_min: float, gamma_max: float, power: float = 2.0) -> schedules.Schedule:
    """γ along t to a power."""
    even = schedules.linear(gamma_min, gamma_max)
    return schedules.Schedule(even.init, lambda params, t: even.gamma(params, t**power))


def euler_like(eta: float = 0.0) -> samplers.Sampler:
    """DDIM by another name."""
    return samplers.ddim(eta)


def as_it_is() -> Grid:
    """The schedule's, of a discrete model too."""
    return Grid(lambda gamma, num_steps, model_steps=None: samplers.grid(gamma, num_steps))


class Tiny(nn.Module):
    width: int
    levels: int

    @nn.compact
    def __call__(self, z, gamma, condition=None, train=False):
        return nn.Dense(z.shape[-1])(nn.Dense(self.width)(z))


def tiny(channels: int, levels: int) -> nn.Module:
    """Two layers, pixel by pixel."""
    return Tiny(channels, levels)


parts.register("schedule", "bent", bent)
parts.register("sampler", "euler_like", euler_like)
parts.register("grid", "as_it_is", as_it_is)
parts.register("network", "tiny", tiny)
'''

SMALL = [
    *("--config.network.channels=4", "--config.training.steps=2", "--config.training.batch_size=4"),
    *("--config.evaluation.draws=1", "--config.sampling.num=2", "--config.sampling.steps=2"),
    *("--config.training.evaluate_every=0", "--config.training.sample_every=0", "--config.evaluation.batch_size=10"),
]


def run(folder: Path, program: str, *args: str) -> subprocess.CompletedProcess[str]:
    return commands.run(program, f"--workdir={folder / 'run'}", *args, cwd=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the module, and a run that was trained with its parts."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "parts_of_ones_own.py").write_text(MODULE)
    values = np.random.default_rng(0).integers(0, 17, (30, 4, 4)).astype(np.uint8)
    np.savez(folder / "a.npz", train=values[:20], test=values[20:])
    named = [
        "schedule.name=bent(power=3)",
        "sampling.sampler=euler_like(1)",
        "sampling.grid=as_it_is",
        "network.name=tiny",
    ]
    data = [f"--config.data.name=npz:{folder / 'a.npz'}", "--config.data.shape=(4,4,1)", "--config.data.levels=17"]
    flags = [*SMALL, *data, *(f"--config.{text}" for text in named)]
    refused = run(folder, "train.py", *flags)
    assert refused.returncode == 2
    assert "config.schedule.name='bent(power=3)': must be one of linear, " in refused.stderr
    result = run(folder, "train.py", "--import=parts_of_ones_own", *flags)
    assert result.returncode == 0, result.stderr
    return folder


def test_a_run_remembers_the_modules_of_its_parts(folder: Path) -> None:
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["imports"] == ["parts_of_ones_own"]
    assert config["schedule"]["name"] == "bent(power=3)"
    sampled = run(folder, "sample.py", "--num=3", "--steps=3", "--sampler=euler_like")
    assert sampled.returncode == 0, sampled.stderr
    assert (folder / "run" / "samples" / "step_2_seed_0_T_3_euler_like_as_it_is.png").stat().st_size > 0
    evaluated = run(folder, "evaluate.py", "--import", "parts_of_ones_own")
    assert evaluated.returncode == 0, evaluated.stderr


def test_what_they_refuse_and_a_module_that_is_gone_are_one_line(folder: Path) -> None:
    refused = run(folder, "sample.py", "--sampler=euler_like(2)")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: config.sampling.sampler='euler_like(2)': eta=2.0: must be a number from 0")
    (folder / "parts_of_ones_own.py").rename(folder / "elsewhere.txt")
    try:
        gone = run(folder, "sample.py")
    finally:
        (folder / "elsewhere.txt").rename(folder / "parts_of_ones_own.py")
    assert gone.returncode == 2
    assert "no module 'parts_of_ones_own' on Python's path or in " in gone.stderr
    assert gone.stderr.count("\n") == 1
