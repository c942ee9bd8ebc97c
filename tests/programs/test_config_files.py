"""Config files by path and by name, in a checkout or installed, and what they import from each other."""

import importlib.machinery
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from absl import flags

from vdm.comparisons.steps import StepsSettings
from vdm.errors import InputError
from vdm.predecessors.config import PredecessorConfig
from vdm.programs import command_line, config_files
from vdm.runs.records import RUNS

ROOT = Path(__file__).parents[2]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_names_are_the_files_of_the_repository() -> None:
    assert config_files.names() == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    assert config_files.find("digits") == ROOT / "configs" / "digits.py"


def test_a_file_is_taken_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match=r"^--config=runs: no such file, and no config of that name; .*, …$"):
        config_files.find("runs")
    assert config_files.find(str(write(tmp_path / "digits.py", ""))) == tmp_path / "digits.py"


def test_a_command_line_is_read_without_what_python_3_15_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_module`, by which ml_collections reads config files: they are read here."""

    def load_module(self: Any, name: str | None = None) -> None:
        raise AssertionError("load_module was called")

    monkeypatch.setattr(importlib.machinery.SourceFileLoader, "load_module", load_module)
    before = set(flags.FLAGS)
    try:
        command_line._parse(["train.py", "--config=digits", "--config.training.steps=7"], None, __name__, None, None)
        assert flags.FLAGS.config.training.steps == 7
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()


@pytest.mark.parametrize("name", config_files.names())
def test_every_file_makes_a_config(name: str) -> None:
    before = dict(sys.modules)
    loaded = config_files.load(config_files.find(name), RUNS)
    assert (type(loaded.config) is PredecessorConfig) == name.startswith(("vae", "hvae", "ladder"))
    assert (loaded.comparison is None) == (not name.startswith(("compare", "families", "objectives")))
    found = {name: module for name, module in sys.modules.items() if name.startswith("configs")}
    assert found == {name: module for name, module in before.items() if name.startswith("configs")}


def test_a_file_of_ones_own_imports_its_neighbours_and_ours(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "digits.py", "from configs import photos32\nget_config = photos32.get_config\n")
    file = write(
        tmp_path / "mine" / "main.py",
        "from configs import compare_digits, digits\n"
        "get_config = digits.get_config\n"
        "get_comparison = compare_digits.get_comparison\n",
    )
    loaded = config_files.load(file)
    assert loaded.config.data.name == "photos32"
    assert isinstance(loaded.comparison, StepsSettings)
    assert loaded.comparison.trained == (10, 250, 1000)


@pytest.mark.parametrize(
    "made", ["Config(network=NetworkConfig(dtype='bfloat16'))", "given.network.dtype = 'bfloat16'"]
)
def test_a_file_for_an_earlier_version_is_told_the_fields_new_name(tmp_path: Path, made: str) -> None:
    text = f"from vdm.config import Config, NetworkConfig\ngiven = Config()\n{made}\n"
    with pytest.raises(InputError, match=r"Error: .*'dtype'; network\.dtype is now training\.precision$"):
        config_files.load(write(tmp_path / "earlier.py", text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def get_config(:\n", "SyntaxError: invalid syntax"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("from configs import nothing\n", "ImportError: cannot import name 'nothing' from 'configs'"),
        ("def get_config():\n    return 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def get_config():\n    return 3\n", "get_config() returned int, not vdm's Config"),
        ("", "AttributeError: "),
    ],
)
def test_what_makes_no_config_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path / "broken.py", text)
    with pytest.raises(InputError, match=re.escape(f"--config={file}: {says}")):
        config_files.load(file)
    with pytest.raises(InputError, match=r"must be a Python file, NAME\.py"):
        config_files.load(write(tmp_path / "config.json", "{}"))
