"""The command `vdm`: every command by name, the scripts at the top level, and one line for another name."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import flax
import jax
import jaxlib
import pytest

import vdm
from vdm.errors import InputError
from vdm.programs import main as command

ROOT = Path(__file__).parents[2]


def test_help_has_every_command(capsys):
    assert command.call([]) == 0
    text = capsys.readouterr().out
    for name, (_, line) in command.COMMANDS.items():
        assert f"  {name}" in text
        assert line in text
    assert len(text.splitlines()) < 40


def test_version_is_one_line(capsys):
    assert command.call(["--version"]) == 0
    python = ".".join(map(str, sys.version_info[:3]))
    said = re.fullmatch(r"vdm (.*) \(Python (.*), jax (.*), jaxlib (.*), flax (.*)\)\n", capsys.readouterr().out)
    assert said.groups() == (vdm.__version__, python, jax.__version__, jaxlib.__version__, flax.__version__)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_is_a_program(name):
    assert callable(importlib.import_module(command.COMMANDS[name][0]).main)


@pytest.mark.parametrize(
    ("name", "hint"), [("trian", "did you mean train?"), ("xyz", "must be one of train, evaluate, sample")]
)
def test_another_name_is_refused(name, hint):
    with pytest.raises(InputError, match=f"vdm {name}: no such command; {hint}"):
        command.call([name])


def test_another_name_is_one_line_and_status_2():
    result = subprocess.run([sys.executable, "-m", "vdm", "trian"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: vdm trian: no such command; did you mean train?\n"


@pytest.mark.parametrize("name", ["train", "sample"])
def test_a_script_is_the_command(name):
    """Their help is the same but for how they were called, from any folder."""
    calls = ([sys.executable, "-m", "vdm", name], [sys.executable, str(ROOT / f"{name}.py")])
    texts = [
        subprocess.run([*call, "--helpfull"], capture_output=True, text=True, check=True, cwd=ROOT / "docs",
                       env={"PYTHONPATH": str(ROOT)}).stdout
        for call in calls
    ]  # fmt: skip
    assert texts[0].replace(f"vdm {name} ", f"python {name}.py ") == texts[1]
    assert "--config.training.steps" in texts[0]


@pytest.mark.parametrize(
    "name",
    ["compress", "decompress", "codec-info", "export", "official", "verify", "plots", "edit", "restore", "report"],
)
def test_commands_without_a_config_have_help_in_two_tiers(name, capsys, monkeypatch):
    """The first with one example, the second with the whole description."""
    run = importlib.import_module(command.COMMANDS[name][0])
    monkeypatch.setattr("sys.argv", [f"vdm {name}"])
    texts = []
    for flag in ("--help", "--helpfull"):
        with pytest.raises(SystemExit) as stopped:
            run.main([flag])
        assert stopped.value.code == 0
        texts.append(capsys.readouterr().out)
    brief, full = texts
    assert brief.startswith(f"usage: vdm {name} ")
    assert brief.count(f"\nexample: vdm {name} ") == 1
    assert max(map(len, brief.splitlines())) <= 100
    assert len(full) > len(brief)
    assert "python -m" not in brief + full
    # Every argument has its line in both.
    arguments = [line.split()[0] for line in brief.splitlines() if line.startswith("  -")]
    assert set(arguments) >= {"--help,", "--helpfull"}
    assert [line.split()[0] for line in full.splitlines() if line.startswith("  -")] == arguments
