"""Build the table for shell completion: every command's flags, and the fields of the configs with their values."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags

from vdm import settings
from vdm.comparisons import modes
from vdm.programs import command_line, config_files
from vdm.programs.command_line import COMMON, Interface, interface
from vdm.programs.main import COMMANDS

Flags = dict[str, list[str] | None]
"""Values by --name: a list, empty unless the choices are known, or None for a flag that takes no value."""


def table() -> dict[str, Any]:
    """Return the table that `completion.completions` takes."""
    kinds: dict[str, tuple[str, type]] = {}
    commands = {name: _command(importlib.import_module(module).main, kinds) for name, (module, _) in COMMANDS.items()}
    fields = {
        key: {f"{flag}.{each.name}": _field_values(each) for each in settings.settings(kind())}
        for key, (flag, kind) in kinds.items()
    }
    return {"commands": commands, "fields": fields, "configs": config_files.names()}


def _command(main: Callable[..., Any], kinds: dict[str, tuple[str, type]]) -> dict[str, Any]:
    found = interface(main)
    if found.parser is None:
        return {"flags": _defined(found), "kinds": _kinds(found, kinds)}
    words, of_parser = _of_parser(found)
    actions: Mapping[str, Any] = {}
    if any(action.dest == "action" for action in found.parser._actions):
        actions = {word: _action(main, word) for word in words}
    return {"flags": of_parser, "words": words, "kinds": [], "actions": actions}


def _action(main: Callable[..., Any], word: str) -> dict[str, Any]:
    words, of_parser = _of_parser(interface(lambda: main([word])))
    return {"flags": of_parser, "words": words, "kinds": []}


def _of_parser(found: Interface) -> tuple[list[str], Flags]:
    """Return the choices of positional arguments, and the flags."""
    words: list[str] = []
    of_parser: Flags = {}
    for action in found.parser._actions if found.parser else ():
        choices = [str(choice) for choice in action.choices or ()]
        names = [name for name in action.option_strings if name.startswith("--")]
        of_parser |= dict.fromkeys(names, None if action.nargs == 0 else choices)
        words += [] if action.option_strings else choices
    return words, of_parser


def _defined(found: Interface) -> Flags:
    """Return the flags that `define` defines, which are deleted again, and those of every command with a config."""
    before = set(flags.FLAGS)
    named: Flags = {f"--{name}": [] for name in COMMON if not (found.own and name == "config")}
    try:
        if found.define is not None:
            found.define()
        by_module = flags.FLAGS.flags_by_module_dict()
        for flag in (flag for module in _modules(found) for flag in by_module.get(module, [])):
            named[f"--{flag.name}"] = list(getattr(flag.parser, "enum_values", []))
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
    return named | {"--help": None, "--helpfull": None}


def _modules(found: Interface) -> tuple[str, ...]:
    """Return the modules that define this package's flags; libraries also define some when they are imported."""
    return (command_line.__name__, *([] if found.define is None else [found.define.__module__]))


def _kinds(found: Interface, kinds: dict[str, tuple[str, type]]) -> list[str]:
    """Return the names of the dataclasses whose fields it takes; add each to `kinds`, with the flag before the dot."""
    classes = [("config", kind) for kind in found.kinds]
    if found.comparison is not None:
        classes += [("comparison", modes.load(mode).settings) for mode in modes.MODES]
    named = {f"{kind.__module__}.{kind.__qualname__}": (flag, kind) for flag, kind in classes}
    kinds |= named
    return list(named)


def _field_values(field: settings.Setting) -> list[str]:
    if field.annotation is bool:
        return ["True", "False"]
    return [word for limit in field.limits for word in limit.words()] if field.annotation is str else []


def main() -> None:
    """Print the table as JSON."""
    sys.argv = ["vdm"]
    json.dump(table(), sys.stdout)


if __name__ == "__main__":
    main()
