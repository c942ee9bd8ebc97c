"""The registry of page content made from the code: a line `<!-- generated: NAME -->` becomes `GENERATORS[NAME]()`.

A generator is a function that returns Markdown, defined in its own module in this package.
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
