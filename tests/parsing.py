"""Command lines of `vdm`, read as the commands read them, without running anything."""

import argparse
import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from absl import flags

from vdm import parts
from vdm.config import Config
from vdm.programs import command_line, config_files, on_noise
from vdm.programs.arguments import Parser
from vdm.programs.main import COMMANDS
from vdm.runs.records import RUNS

MODULES = {module.removesuffix(".table").removesuffix(".programs"): name for name, (module, _) in COMMANDS.items()}
MODULES |= {f"vdm.{name}": name for name in COMMANDS}
"""Commands by what `python -m` calls them."""


class Parsed(BaseException):
    """Ends a command whose command line has been read."""


def command(name: str, arguments: Sequence[str]) -> None:
    """Reads `vdm NAME ARGUMENTS`. AssertionError with what is said of it, if anything is wrong."""
    assert name in COMMANDS, f"vdm {name}: no such command"
    main = importlib.import_module(COMMANDS[name][0]).main
    errors: list[str] = []
    with pytest.MonkeyPatch.context() as patch, _flags_of_its_own(), _parts_of_its_own():
        patch.setattr("sys.argv", [f"vdm {name}", *arguments])
        patch.setattr(command_line, "run", _run)
        patch.setattr(Parser, "parse_args", _parse_args)
        patch.setattr(Parser, "error", lambda self, message: errors.append(message) or _stop())
        for module in (command_line, on_noise):
            patch.setattr(module, "read_config", read_config)
        try:
            main()
        except Parsed:
            pass
        except (ValueError, flags.Error) as error:
            errors.append(str(error))
        except SystemExit as stopped:  # --help
            errors += [f"status {stopped.code}"] if stopped.code else []
        else:
            errors.append("read no command line")
    assert not errors, f"vdm {name} {' '.join(arguments)}: {errors[0]}"


def read_config(path: Path, *kinds: type) -> Any:
    """That of the run in a folder, which need not be there: by its name, as runs/digits_2 is of configs/digits.py."""
    names = [name for name in config_files.names() if re.split(r"[:/]", str(path))[-1].startswith(name)]
    if names:
        made = config_files.load(config_files.find(max(names, key=len)), RUNS).config
        if isinstance(made, kinds or Config):
            return made
    return Config()


def _run(program: Any, description: Any, define: Any, default: Any = None, comparison: Any = None, own: Any = None,
         kinds: Sequence[type] = (Config,)) -> int:  # fmt: skip
    define()
    command_line._parse(sys.argv, description, define.__module__, default, comparison, own, kinds)
    command_line.config()
    if comparison is not None:
        command_line.comparison()
    raise Parsed


def _parse_args(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> None:
    argparse.ArgumentParser.parse_args(parser, args, namespace)
    raise Parsed


def _stop() -> None:
    raise Parsed


@contextmanager
def _flags_of_its_own() -> Iterator[None]:
    before = set(flags.FLAGS)
    try:
        yield
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()


@contextmanager
def _parts_of_its_own() -> Iterator[None]:
    """What modules of --import register is gone again."""
    before = {kind: dict(named) for kind, named in parts.PARTS.items()}
    try:
        yield
    finally:
        for kind, named in before.items():
            parts.PARTS[kind].clear()
            parts.PARTS[kind].update(named)
