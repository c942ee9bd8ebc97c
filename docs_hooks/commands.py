"""Every command of `vdm` with its flags, as the command itself defines them. No command is run."""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

from absl import flags

from docs_hooks.config_fields import CONFIGS, anchor
from docs_hooks.docstrings import markdown
from docs_hooks.markup import entry, prose
from vdm.comparisons import modes
from vdm.config import Config
from vdm.programs import command_line, main
from vdm.programs.arguments import Parser


class Flag(NamedTuple):
    """A flag or a positional argument."""

    name: str
    default: str
    """The default as it is written on the command line; "" for none."""
    help: str


class Command(NamedTuple):
    """A command's description of itself."""

    name: str
    description: str
    flags: list[Flag]
    kinds: Sequence[type] = ()
    """The classes of config whose fields --config.FIELD sets; empty for a command without a config."""
    shared: Sequence[Flag] = ()
    """Flags that most commands share, with this command's defaults."""


SHARED = [
    Flag(
        "--config",
        "",
        "A config file, or the name of one that comes with vdm; without it, that of the run in --workdir.",
    ),
    Flag("--workdir", "", "Folder of the run; by default runs/NAME for the config NAME."),
    Flag("--import", "", "MODULE,…: modules of your own that register parts, also from the current folder."),
]
PROCESSES = ("--coordinator", "--num_processes", "--process_id")


class _Caught(Exception):
    def __init__(self, what: Any):
        self.what = what


def commands() -> str:
    """Return the page's Markdown, with a section for each command."""
    return "\n\n".join(section for name in main.COMMANDS for section in _sections(name))


def shared_flags() -> str:
    """Return the Markdown for the flags that most commands share."""
    processes = [_flag(flag) for flag in _defined(command_line.define_processes)]
    return "\n\n".join(map(_entry, (*SHARED, *processes)))


def described(name: str) -> list[Command]:
    """Return a command, followed by its actions if it has any."""
    caught = _caught(name)
    if not isinstance(caught, argparse.ArgumentParser):
        return [_with_config(name, caught)]
    choices = [choice for action in caught._actions for choice in action.choices or () if not action.option_strings]
    actions = {parser.prog: parser for choice in choices for parser in [_caught(name, choice)]}
    return [_of_parser(parser) for parser in ({caught.prog: caught} | actions).values()]


def _caught(name: str, *arguments: str) -> Any:
    """Return the parser of a command, or the arguments that it passed to `command_line.run`."""

    def run(*args: Any, **kwargs: Any) -> None:
        raise _Caught(inspect.signature(original).bind(*args, **kwargs).arguments)

    def parse(self: Any, *_: Any) -> None:
        raise _Caught(self)

    original = command_line.run
    with (
        mock.patch.object(command_line, "run", run),
        mock.patch.object(Parser, "parse_known_args", parse),
        mock.patch.object(sys, "argv", [f"vdm {name}", *arguments]),
    ):
        try:
            main._module(name).main()
        except _Caught as caught:
            return caught.what
    raise AssertionError(f"vdm {name}: reads no command line")


def _of_parser(parser: Any) -> Command:
    shown = [action for action in parser._actions if action.dest not in ("help", "helpfull")]
    return Command(parser.prog, parser._full, [_argument(action) for action in shown])


def _argument(action: argparse.Action) -> Flag:
    name = action.option_strings[0] if action.option_strings else action.metavar or action.dest.upper()
    default = "" if action.default in (None, argparse.SUPPRESS) else str(action.default)
    needed = " Needed." if action.required and action.option_strings else ""
    choices = "" if action.choices is None else " One of " + ", ".join(f"`{choice}`" for choice in action.choices) + "."
    text = (action.help or "").removesuffix(f" (default: {default})")
    return Flag(str(name), default, f"{text[:1].upper()}{text[1:].removesuffix('.')}.{choices}{needed}")


def _with_config(name: str, given: dict[str, Any]) -> Command:
    own, kinds = given.get("own"), list(given.get("kinds", (Config,)))
    config = Flag("--config", given.get("default_config") or "", "")
    found = [_flag(flag) for flag in _defined(given["define"])]
    processes = [flag for flag in found if flag.name in PROCESSES]
    shared = [*([] if own else [config]), Flag("--workdir", own.workdir if own else "", ""), Flag("--import", "", "")]
    if own:
        kinds = [own.kind]
    if given.get("comparison"):
        kinds += [modes.load(mode).settings for mode in modes.MODES]
    rest = sorted((flag for flag in found if flag not in processes), key=lambda flag: flag.name == "--out")
    return Command(f"vdm {name}", inspect.cleandoc(given["description"]), rest, kinds, shared + processes)


def _flag(flag: Any) -> Flag:
    default = "" if flag.default is None else str(flag.default)
    choices = getattr(flag, "enum_values", None)
    text = re.sub(r"^<[^>]*>: ", "", flag.help).removesuffix(";").replace(f" (default: {default}).", ".")
    return Flag(f"--{flag.name}", default, text + (f" One of {', '.join(choices)}." if choices else ""))


def _defined(define: Any) -> list[Any]:
    """Return the flags that a function defines, after removing them again."""
    before = set(flags.FLAGS)
    define()
    by_module = flags.FLAGS.flags_by_module_dict()
    modules = dict.fromkeys((define.__module__, command_line.__name__))
    found = [flag for module in modules for flag in by_module.get(module, ()) if flag.name not in before]
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    return found


def _sections(name: str) -> Iterator[str]:
    for command in described(name):
        level = "##" if command.name == f"vdm {name}" else "###"
        lines = [f"{level} {command.name}", markdown(command.description)]
        lines += [_entry(flag) for flag in command.flags]
        if command.shared:
            also = [
                f"[`{flag.name}`](#shared)" + f" (default `{flag.default}`)" * bool(flag.default)
                for flag in command.shared
            ]
            lines += [f"Also {', '.join(also)}, and fields of the config:", "".join(map(_fields, command.kinds))]
        yield "\n\n".join(lines)


def _fields(kind: type) -> str:
    heading, flag = CONFIGS[kind]
    return f"- `--{flag}.FIELD=VALUE`: [{heading}](config.md#{anchor(kind)})\n"


def _entry(flag: Flag) -> str:
    first, _, choices = flag.help.partition("\n")
    default = f" · default `{flag.default}`" if flag.default else ""
    listed = "\n".join(f"- {prose(line)}" for line in choices.splitlines())
    return entry(f"`{flag.name}`{default}", prose(first), *([listed] if listed else []))
