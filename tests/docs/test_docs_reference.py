"""The pages of reference that are made from the code: complete, and as the programs themselves have it."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from types import ModuleType

import pytest

import vdm
from docs_hooks import api, config_fields
from docs_hooks import commands as commands_page
from docs_hooks import parts as parts_page
from docs_hooks.generators import GENERATORS
from vdm import parts, settings
from vdm.programs import main

PAGES = {path: text for path, (_, text) in api.pages().items()}
DOCUMENTED = [
    name
    for path, page in PAGES.items()
    if path != "reference/api/index.md"
    for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)
]
"""Modules on pages."""


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The Markdown of each generator that reads no runs."""
    names = ("commands", "shared_flags", "config_fields", "configs", "parts")
    return {name: GENERATORS[name]() for name in names}


def test_every_module_of_the_library_is_on_one_page():
    """As Python finds them, where the pages are made from files; what is no API is named, and exists."""
    found = {module.name for module in pkgutil.walk_packages(vdm.__path__, "vdm.")}
    internal = {f"vdm.{name}" for name in api.INTERNAL}
    assert internal <= found
    public = {name for name in found if not any(part[0] == "_" for part in name.split("."))}
    shown = {name for name in public if ".".join(name.split(".")[:2]) not in internal}
    assert sorted(DOCUMENTED) == sorted(shown)


def test_every_name_of_vdm_is_documented():
    """A module has its page, a function its definition on a page or on the index."""
    for name in vdm.__all__:
        if name in vdm.FUNCTIONS:
            assert f"{vdm.FUNCTIONS[name]}.{name}" in PAGES["reference/api/index.md"]
        else:
            assert f"vdm.{name}" in DOCUMENTED


@pytest.mark.parametrize("module", DOCUMENTED)
def test_every_public_name_has_a_docstring(module):
    found = importlib.import_module(module)
    assert found.__doc__
    lacking = [name for name, value in public(found) if not (inspect.getdoc(value) or "").strip()]
    assert not lacking


def public(module: ModuleType) -> list[tuple[str, object]]:
    """The classes and functions that a module defines, and the functions of these classes.

    Those that override documented ones count as documented; flax calls `setup`.
    """
    own = [(n, v) for n, v in vars(module).items() if n[0] != "_" and getattr(v, "__module__", "") == module.__name__]
    things = [(name, value) for name, value in own if callable(value) and hasattr(value, "__qualname__")]
    classes = [(name, value) for name, value in things if isinstance(value, type)]
    methods = [
        (f"{name}.{of}", method)
        for name, cls in classes
        for of, method in vars(cls).items()
        if of[0] != "_" and of != "setup" and callable(method) and getattr(method, "__module__", "") == module.__name__
    ]
    return things + methods


def test_every_command_has_its_flags(made):
    assert re.findall(r"^## vdm (\S+)$", made["commands"], re.MULTILINE) == list(main.COMMANDS)
    sections = dict(zip(main.COMMANDS, re.split(r"^## vdm .*$", made["commands"], flags=re.MULTILINE)[1:], strict=True))
    assert "`--stderr`" in sections["evaluate"]
    assert "`--stderr`" not in sections["sample"]
    assert "`--platforms` · default `cpu,cuda,tpu`" in sections["export"]
    assert "### vdm metrics convert" in sections["metrics"]


@pytest.mark.parametrize("name", ["evaluate", "export"])
def test_flags_are_those_of_the_help(name):
    """Of a command with a config, and of one with none."""
    command = [sys.executable, "-m", "vdm", name, "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"^  (--\w+)", printed, re.MULTILINE)) - {"--help", "--helpfull"}
    described = commands_page.described(name)[0]
    assert {flag.name for flag in (*described.flags, *described.shared)} == flags


def test_no_flag_stays_defined():
    from absl import flags

    before = set(flags.FLAGS)
    commands_page.described("sample")
    assert set(flags.FLAGS) == before


def test_every_field_is_there_once(made):
    for kind, (_, flag) in config_fields.CONFIGS.items():
        for field in settings.settings(kind()):
            anchor = f'id="{config_fields.anchor(kind)}.{field.name}"'
            group = getattr(kind(), field.name.split(".")[0])
            count = made["config_fields"].count(anchor)
            assert count == 1 or (count == 0 and dataclasses.is_dataclass(group)), (flag, field.name)
    for field in settings.settings(config_fields.Config()):
        assert f"--config.{field.name}={field.value!r}`" in made["config_fields"]


def test_groups_shared_by_configs_are_listed_where_they_differ(made):
    """The optimizer of models before diffusion has another learning rate, and the same β₁."""
    assert 'id="predecessorconfig.optimizer.learning_rate"' in made["config_fields"]
    assert 'id="predecessorconfig.optimizer.b1"' not in made["config_fields"]


def test_every_part_is_there(made):
    assert set(parts_page.KINDS) >= set(parts.PARTS)
    for kind in parts.PARTS:
        for name in parts.names(kind):
            assert f'id="{kind}.{name}"' in made["parts"]


def test_a_part_shows_no_argument_that_the_config_gives(made):
    assert "[`shifted_cosine(shift=0.0)`][vdm.schedules.shifted_cosine]" in made["parts"]
