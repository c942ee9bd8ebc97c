"""Imports point one way, as docs/howto/own_parts.md draws it: no circle, and nothing that runs back up."""

import ast
from pathlib import Path

import pytest

import vdm

ROOT = Path(vdm.__file__).parent

# From the bottom up. A room may import those below it and its neighbours in its own line, but no circle may close.
ROOMS = [
    {"errors", "files", "annotations", "parts", "settings", "reading", "npz", "safetensors", "progress"},
    {"gaussian", "schedules", "predictions", "weightings", "timesteps", "proposals", "likelihoods", "bounds",
     "processes", "oracles", "keys", "decodings", "precisions", "operators",
     "posteriors"},
    {"guidance", "composition", "samplers", "probability_flow", "codec", "inverse", "restorations"},
    {"networks", "parallel", "memory", "config"},
    {"data", "model", "guides", "guides_checks", "guides_composed", "noisy", "classifier", "image_text", "speed"},
    {"training", "evaluation", "predecessors"},
    {"plots"},
    {"runs"},
    {"comparisons", "report"},
    {"programs", "export", "verify", "official"},
]  # fmt: skip
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

# What the mathematics must do without.
FORBIDDEN = {"flax", "optax", "orbax", "ml_collections", "absl", "grain", "tensorflow_datasets", "rich", "matplotlib"}
MATHEMATICS = (ROOMS[0] | ROOMS[1] | ROOMS[2]) - {"progress"}


def modules() -> dict[str, Path]:
    """Dotted name without `vdm.`, and file, of every module but the programs' doors (`__main__`) and `vdm` itself."""
    named = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and parts[-1] != "__main__":
            named[name] = path
    return named


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Absolute names that a file imports at any depth of its code, of the package those that are its modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {_module(name) for name in found}


def _module(name: str) -> str:
    """Of a name in the package, the module that it is in."""
    inside = name.startswith("vdm.") and name.removeprefix("vdm.") not in MODULES
    return _module(name.rpartition(".")[0]) if inside else name


def room(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def own(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    return {name.removeprefix("vdm.") for name in imports(MODULES[module]) if name.startswith("vdm.")}


def test_every_room_has_its_place():
    assert {room(module) for module in MODULES} == set(RANK)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_runs_back_up(module):
    up = {other for other in own(module) if RANK[room(other)] > RANK[room(module)]}
    assert not up, f"vdm.{module} imports {sorted(up)} from above"


def test_there_is_no_circle():
    """Among modules, of a package's `__init__` too: depth first, with the modules on the way."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in sorted(own(module) - {module}):
                visit(other, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in MATHEMATICS])
def test_the_mathematics_needs_jax_alone(module):
    assert not {name.split(".")[0] for name in imports(MODULES[module])} & FORBIDDEN


def test_the_walk_sees_what_it_should():
    """It finds an import in a function, one of a name, and one of a module by `from vdm import`."""
    assert "samplers.loop" in own("samplers")
    assert {"bounds", "model"} <= own("evaluation.bound")


# Readers, and what stands alone or reads what it has itself just written.
READERS = {"reading", "npz", "export.load"}


@pytest.mark.parametrize("module", [m for m in MODULES if m not in READERS])
def test_files_are_read_by_the_readers(module):
    """Else what is wrong with one is a traceback: `vdm.reading` and `vdm.npz` say it in one line."""
    tree = ast.parse(MODULES[module].read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    methods = {call.rpartition(".")[2] for call in calls}
    assert not calls & {"json.load", "json.loads", "np.load", "pickle.load", "pickle.loads"}
    assert not methods & {"isdigit", "isdecimal", "isnumeric"}, "of a text, `vdm.reading.whole` and `is_whole`"
