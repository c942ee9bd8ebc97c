"""The programs as a user meets them: help, and bad input as one line with exit status 2."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def run(*args: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program, *rest = args
    command = [sys.executable, str(ROOT / program), *map(str, rest)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=120)


def assert_refused(result: subprocess.CompletedProcess[str], *mentions: str) -> None:
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for mention in mentions:
        assert mention in lines[0]


@pytest.mark.parametrize("program", ["train.py", "evaluate.py", "sample.py"])
def test_help_lists_flags_and_fields_with_their_meaning(program: str) -> None:
    result = run(program, "--help")
    assert result.returncode == 0
    for text in ("--workdir", "--config.training.steps=", "Optimiser steps in all.", "usage: python " + program):
        assert text in result.stdout
    if program == "sample.py":
        assert "--trajectory" in result.stdout


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["--config.training.stepz=3"], ["training.stepz", "training.steps"]),
        (["--config.trainin.steps=3"], ["trainin.steps", "training.steps"]),
        (["--config.training.steps=abc"], ["training.steps", "abc"]),
        (["--config.training.steps=0"], ["training.steps=0", "1 or more"]),
        (["--config.schedule.name=quadratic"], ["quadratic", "learned_monotone"]),
        (["--config=configs/nothing.py"], ["configs/nothing.py"]),
        (["--steps=3"], ["steps"]),
        (["extra"], ["extra"]),
    ],
)
def test_bad_command_lines(args: list[str], mentions: list[str], tmp_path: Path) -> None:
    assert_refused(run("train.py", f"--workdir={tmp_path / 'run'}", *args), *mentions)
    assert not (tmp_path / "run").exists()


def test_a_config_file_that_fails_or_makes_something_else(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    assert_refused(run("train.py", f"--config={tmp_path / 'broken.py'}"), "broken.py")
    (tmp_path / "number.py").write_text("def get_config():\n    return 3\n")
    assert_refused(run("train.py", f"--config={tmp_path / 'number.py'}"), "number.py")


def test_bad_data_leaves_no_run_folder(tmp_path: Path) -> None:
    np.savez(tmp_path / "floats.npz", train=np.zeros((20, 4, 4)), test=np.zeros((5, 4, 4)))
    for name, mention in (
        (f"npz:{tmp_path / 'missing.npz'}", "missing.npz"),
        (f"npz:{tmp_path / 'floats.npz'}", "float64"),
        ("no_such_data_set", "digits, photos32, npz:PATH, folder:PATH"),
    ):
        env_dir = f"--config.data.data_dir={tmp_path / 'data'}"
        args = (f"--workdir={tmp_path / 'run'}", f"--config.data.name={name}", env_dir)
        assert_refused(run("train.py", *args), mention)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("program", ["evaluate.py", "sample.py"])
def test_a_folder_without_a_run(program: str, tmp_path: Path) -> None:
    assert_refused(run(program, f"--workdir={tmp_path / 'nothing'}"), "nothing", "train.py")


def test_programs_run_from_any_folder(tmp_path: Path) -> None:
    assert run("train.py", "--help", cwd=tmp_path).returncode == 0
    assert not os.listdir(tmp_path)
