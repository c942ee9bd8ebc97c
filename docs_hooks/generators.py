"""The registry of what pages take from the code: a page's line `<!-- generated: NAME -->` becomes `GENERATORS[NAME]()`.

A generator returns Markdown, and is a function in a module of its own here.
"""

from collections.abc import Callable

from docs_hooks.commands import commands, shared_flags
from docs_hooks.config_fields import config_fields, configs
from docs_hooks.equations import equations
from docs_hooks.models_table import models_table
from docs_hooks.parts import parts

GENERATORS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "config_fields": config_fields,
    "configs": configs,
    "equations": equations,
    "models_table": models_table,
    "parts": parts,
    "shared_flags": shared_flags,
}
