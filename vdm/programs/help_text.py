"""Help texts of the commands: a short one of a page, and a full one with every config field."""

import inspect
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags

from vdm import settings
from vdm.config import Config
from vdm.programs import config_files

Given = dict[str, str]
"""Values of the flags on the command line by name, before they are parsed."""

HELP, HELP_FULL = ("--help", "-help", "-h", "--helpshort", "-helpshort"), ("--helpfull", "-helpfull")

HELP_WIDTH = 100
"""Width of help texts in columns."""


class Own(NamedTuple):
    """A config that a command builds from the flags given, of a class that no config file makes."""

    kind: type
    make: Callable[[Given], tuple[Any, str]]
    """Build the config, and the default of --workdir, from the flags given."""
    workdir: str
    """The default of --workdir as the help describes it."""


def program_name(program: str) -> str:
    """Return how the program was called: `vdm train`, or `python train.py`."""
    return program if program.startswith("vdm ") else f"python {os.path.basename(program)}"


def brief(description: str) -> tuple[str, str]:
    """Return the first paragraph of a description and its first example, a line that begins with a command."""
    first = textwrap.fill(description.split("\n\n", maxsplit=1)[0], HELP_WIDTH)
    lines = (line.strip() for line in description.splitlines())
    return first, next((line for line in lines if line.startswith(("vdm ", "python "))), "")


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return lines with names on the left and their texts, wrapped, on the right; a text's own line breaks are kept."""
    width = max(len(name) for name, _ in rows) + 4
    lines = []
    for name, text in rows:
        broken = [part for line in text.splitlines() for part in textwrap.wrap(line.strip(), HELP_WIDTH - width)]
        indented = [" " * width + part for part in broken]
        lines += [f"  {name:<{width - 2}}{broken[0]}", *indented[1:]]
    return lines


def help_of(
    program: str,
    description: str | None,
    modules: Sequence[str],
    default_config: str | None,
    second: type | None,
    full: bool,
    own: Own | None = None,
    documented: type = Config,
) -> str:
    """Return the short help, the flags with one example, or the full one, which also lists the dataclasses' fields."""
    called = program_name(program)
    # The examples, too, call it as the user did; with python -OO there is no docstring.
    description = inspect.cleandoc(description or "").replace(
        f"vdm {re.split('[ /]', program)[-1].removesuffix('.py')} ", f"{called} "
    )
    first, example = brief(description)
    default = f"default: {default_config}" if default_config else "default: that of the run in --workdir"
    of_a_release = "" if default_config else ", or vdm:NAME"
    rows = [
        ("--config", f"Config file, or the name of one in configs/ ({default}).\n{', '.join(config_files.names())}"),
        ("--workdir", f"Folder of the run{of_a_release} (default: runs/NAME for configs/NAME.py)."),
        ("--import", "MODULE[,MODULE]: your own modules that register parts, also in the current folder."),
    ]
    if own is not None:
        rows[:2] = [("--workdir", f"Folder that it is trained in (default: {own.workdir}).")]
    by_module = flags.FLAGS.flags_by_module_dict()
    # The command's own flags, and those of `define_processes`. Only the full help lists the choices, one per line.
    defined = [flag for of in modules for flag in by_module.get(of, [])]
    rows += [(f"--{flag.name}", flag.help) for flag in defined]
    first_kind = documented if own is None else own.kind
    kinds = [(flag, kind) for flag, kind in (("config", first_kind), ("comparison", second)) if kind is not None]
    if not full:
        fields = " and ".join(f"--{flag}.FIELD=VALUE" for flag, _ in kinds)
        # What absl appends to the help of a repeatable flag begins with a semicolon.
        rows = [(name, text.splitlines()[0].removesuffix(";")) for name, text in rows]
        rows.append(("--helpfull", f"Print the full help, with the fields that {fields} set{'s' * (len(kinds) == 1)}."))
        return "\n".join(
            [first, "", f"usage:   {called} [flags]", f"example: {example}", "", "flags:", *_columns(rows)]
        )
    lines = [description, "", f"usage: {called} [flags]", "", "flags:", *_columns(rows)]
    for flag, kind in kinds:
        lines += ["", f"{flag} fields (defaults of the dataclasses; the config file sets its own):"]
        for field in settings.settings(kind()):
            lines += [f"  --{flag}.{field.name}={field.value!r}", f"      {field.help}"]
    return "\n".join(lines)
