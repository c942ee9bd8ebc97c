"""Completion: what may follow is what the commands take, in the shells that are here, without importing JAX."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vdm
from vdm.config import Config
from vdm.programs import completion, completion_table, config_files
from vdm.programs.main import COMMANDS
from vdm.settings import flatten

ROOT = Path(vdm.__file__).parents[1]


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    made = completion_table.table()
    assert json.loads(json.dumps(made)) == made
    return made


def completed(table: dict[str, Any], line: str) -> list[str]:
    return completion.completions(line, table)


def test_there_is_every_command_and_no_hidden_one(table: dict[str, Any]) -> None:
    assert {word.strip() for word in completed(table, "vdm ")} == {*COMMANDS, "--help", "--version"}
    assert completed(table, "vdm tr") == ["train "]
    assert completed(table, "vdm nonsense --") == []


@pytest.mark.parametrize("name", ["train", "classifier", "compress"])
def test_flags_are_those_of_the_help(table: dict[str, Any], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is written from the same definitions by other code."""
    command = [sys.executable, "-m", "vdm", name, "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    listed = {word.strip(",") for line in found.splitlines() for word in line.split()[:1] if word.startswith("--")}
    flags = set(table["commands"][name]["flags"])
    assert {flag.partition("=")[0] for flag in listed} <= flags
    assert flags - listed <= {"--help"}


def test_fields_and_their_values(table: dict[str, Any]) -> None:
    groups = completed(table, "vdm train --config.")
    assert {"--config.training.", "--config.network.", "--config.seed="} <= set(groups)
    fields = {
        field for group in groups for field in (completed(table, f"vdm train {group}") if group[-1] == "." else [group])
    }
    assert {f"--config.{name}=" for name in flatten(Config())} <= fields
    assert completed(table, "vdm train --config.training.prec") == ["--config.training.precision="]
    assert "--config.training.precision=bfloat16 " in completed(table, "vdm train --config.training.precision=")
    assert completed(table, "vdm train --config.data.labels=") == [
        f"--config.data.labels={value} " for value in ("True", "False")
    ]
    assert "--config.sampling.sampler=ddim " in completed(table, "vdm sample --config.sampling.sampler=d")
    assert completed(table, "vdm compare --comparison.trained") == ["--comparison.trained="]
    assert completed(table, "vdm verify --config.") == []


def test_names_of_configs_and_words(table: dict[str, Any]) -> None:
    found = completed(table, "vdm train --config=")
    assert found == [f"--config={name} " for name in config_files.names()]
    assert completed(table, "vdm compare --by=co") == ["--by=codec "]
    assert completed(table, "vdm metrics sc") == ["score "]
    assert "--metrics=" in completed(table, "vdm metrics score --m")
    assert "--metrics=" not in completed(table, "vdm metrics convert --m")
    assert completed(table, "vdm completion z") == ["zsh "]
    assert completed(table, "vdm info --js") == ["--json "]


def test_completing_imports_nothing_that_takes_long(table: dict[str, Any]) -> None:
    code = (
        "import sys\nfrom vdm.programs import completion, main\n"
        "completion.read_table = lambda: {'commands': {'train': {}}, 'fields': {}, 'configs': []}\n"
        "main.call(['complete', 'vdm tr'])\n"
        "assert not {'jax', 'numpy', 'absl', 'flax'} & set(sys.modules), sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "train \n"


def test_the_table_is_kept_until_the_package_changes(
    tmp_path: Path, table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setenv("VDM_CACHE", str(tmp_path))
    monkeypatch.setattr(completion, "_made", lambda: made.append(1) or table)
    monkeypatch.setattr(completion, "_version", lambda: "one")
    assert completion.read_table() == completion.read_table() == table
    assert len(made) == 1
    (tmp_path / "completion" / "one.json").write_text('{"cut sh')  # by a full disk
    assert completion.read_table() == table
    monkeypatch.setattr(completion, "_version", lambda: "two")
    assert completion.read_table() == table
    assert len(made) == 3
    assert [path.name for path in (tmp_path / "completion").iterdir()] == ["two.json"]


@pytest.fixture
def shell_environment(tmp_path: Path, table: dict[str, Any]) -> dict[str, str]:
    """`vdm` on the PATH, with a kept table; any other command than completion's prints its arguments."""
    (tmp_path / "vdm").write_text(
        f'#!/bin/sh\ncase "$1" in complet*) exec "{sys.executable}" -m vdm "$@" ;; *) echo "<$*>" ;; esac\n'
    )
    (tmp_path / "vdm").chmod(0o755)
    (tmp_path / "completion").mkdir(mode=0o700)
    (tmp_path / "completion" / f"{completion._version()}.json").write_text(json.dumps(table))
    path = f"{tmp_path}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "VDM_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


LINES = [
    ("vdm trai", ["train "]),
    ("vdm train --config.training.logg", ["--config.training.loggers="]),
    ("vdm compare --by=gui", ["--by=guidance "]),
    ("vdm info --js", ["--json "]),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(shell_environment: dict[str, str]) -> None:
    """Where = ends a word for readline, as it does by default, what comes before it is left out."""
    lines = ['eval "$(vdm completion bash)"', "complete -p vdm"]
    for line, _ in LINES:
        lines += [f"COMP_LINE='{line}' COMP_POINT={len(line)}; _vdm; printf '%s|\\n' \"${{COMPREPLY[@]}}\""]
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(lines)], capture_output=True, text=True, check=True, env=shell_environment
    )
    said = done.stdout.splitlines()
    assert said[0].endswith("-F _vdm vdm")
    assert said[1:] == ["train |", "--config.training.loggers=|", "guidance |", "--json |"]
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_what_is_typed(shell_environment: dict[str, str]) -> None:
    """Through readline: a tab after the beginning, and the command that it makes is run."""
    pty = pytest.importorskip("pty")
    script = 'bind "set bell-style none"; PS1=; eval "$(vdm completion bash)"'
    master, slave = pty.openpty()
    bash = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], stdin=slave, stdout=slave, stderr=slave, env=shell_environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    os.write(master, f"{script}\nvdm trai\t--config=digits_cond\t--config.training.prec\tbf\t\nexit\n".encode())
    said = b""
    try:
        while chunk := os.read(master, 4096):
            said += chunk
    except OSError:  # as Linux says that the other end is closed
        pass
    bash.wait()
    os.close(master)
    expected = b"<train --config=digits_conditional --config.training.precision=bfloat16>"
    assert expected in said.replace(b"\r", b""), said.decode()


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
@pytest.mark.parametrize(("line", "found"), LINES)
def test_fish_completes(shell_environment: dict[str, str], line: str, found: list[str]) -> None:
    command = ["fish", "-N", "-c", f"vdm completion fish | source; complete -C '{line}'"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=shell_environment)
    assert [text.strip() for text in done.stdout.splitlines()] == [text.strip() for text in found]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
@pytest.mark.parametrize(("line", "found"), LINES)
def test_zsh_completes(shell_environment: dict[str, str], line: str, found: list[str]) -> None:
    """Its function, with what `compadd` is given: completion itself needs a terminal."""
    script = (
        'compdef() { : }; eval "$(vdm completion zsh)"; compadd() { print -rl -- "${(@P)argv[-1]}" }; '
        f"LBUFFER='{line}' _vdm"
    )
    done = subprocess.run(
        ["zsh", "-f", "-c", script], capture_output=True, text=True, check=True, env=shell_environment
    )
    assert [text.strip() for text in done.stdout.splitlines()] == [text.strip() for text in found]
