"""Pages of the Python API: one for each public module and package, filled by mkdocstrings from docstrings.

The page of a package starts with a table of the names that it exports, followed by all its modules; every definition
appears once, where it is defined. New modules are included automatically, on an existing page or one of their own.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1]

INTERNAL = {
    "annotations", "comparisons", "errors", "export", "files", "guides_checks", "memory", "npz", "official",
    "programs", "progress", "reading", "safetensors", "speed", "verify",
}  # fmt: skip
"""Modules directly in `vdm` that are not part of the API: the programs and what they are made of."""


@functools.cache
def pages() -> dict[str, tuple[str, str]]:
    """Return the title and Markdown of each page, by path."""
    of_modules = {path_of(name): (name, _page(name)) for name in documented()}
    return {"reference/api/index.md": ("Python API", _index())} | of_modules


def path_of(module: str) -> str:
    """Return the path of the page of a module or package."""
    return f"reference/api/{module.removeprefix('vdm.')}.md"


def documented() -> list[str]:
    """Return the modules with a page: those directly in `vdm` and packages at any depth, except `INTERNAL` ones."""
    return [name for name in modules("vdm") if name.count(".") == 1 or is_package(name)]


def modules(package: str) -> list[str]:
    """Return the public modules and packages below a package, at any depth, in order."""
    return list(_below(package, file_of(package).parent))


def is_package(module: str) -> bool:
    """Tell whether a module is a package."""
    return file_of(module).name == "__init__.py"


def file_of(module: str) -> Path:
    """Return the source file of a module, or the `__init__.py` of a package."""
    path = SOURCE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _below(package: str, folder: Path) -> Iterator[str]:
    found = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    for name in sorted(name for name in found if not name.startswith("_")):
        if package != "vdm" or name not in INTERNAL:
            yield f"{package}.{name}"
            if (folder / name).is_dir():
                yield from _below(f"{package}.{name}", folder / name)


def summary(tree: ast.AST) -> str:
    """Return the first paragraph of the docstring of a module, class or function on one line; "" without one."""
    paragraph = (ast.get_docstring(tree) or "").partition("\n\n")[0]  # type: ignore[arg-type]
    return " ".join(paragraph.split())


@functools.cache
def tree_of(module: str) -> ast.Module:
    """Parse the source of a module."""
    return ast.parse(file_of(module).read_text())


def exports(package: str) -> dict[str, str]:
    """Return the dotted name of the definition of each name in `__all__` that the package imports."""
    body = tree_of(package).body
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    listed = [ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign) and _is_all(node)]
    return {name: imported[name] for name in (listed[0] if listed else ()) if name in imported}


def _is_all(node: ast.Assign) -> bool:
    return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"


def _definition(path: str) -> ast.AST:
    """Return what a dotted name stands for: a module, or the last definition of that name in its module."""
    module, _, name = path.rpartition(".")
    if file_of(path).is_file():
        return tree_of(path)
    return next(node for node in reversed(tree_of(module).body) if name in _names(node))


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _first(path: str) -> str:
    definition = _definition(path)
    described = isinstance(definition, ast.Module | ast.FunctionDef | ast.ClassDef)
    return summary(definition).replace("|", "\\|") if described else ""


def _page(name: str) -> str:
    front = ["---", f"title: {name}", "---", ""]
    if not is_package(name):
        return "\n".join([*front, *_block(name, heading_level=1), ""])
    lines = [*front, *_block(name, heading_level=1, members=False)]
    if rows := [f"| [`{short}`][{path}] | {_first(path)} |" for short, path in exports(name).items()]:
        lines += ["", f"| in `{name}` | what it is |", "|---|---|", *rows]
    for module in modules(name):
        if module.rpartition(".")[0] == name and not is_package(module):  # packages in it have pages of their own
            lines += ["", *_block(module, heading_level=2)]
    return "\n".join([*lines, ""])


def _block(name: str, **options: object) -> list[str]:
    """Return the lines that mkdocstrings replaces with the documentation of a name."""
    return [
        f"::: {name}",
        "    options:",
        *(f"      {option}: {str(value).lower()}" for option, value in options.items()),
    ]


def _index() -> str:
    rows = [f"| [`{name}`]({Path(path_of(name)).name}) | {_first(name)} |" for name in documented()]
    lines = ["# Python API", "", "| module | what it is |", "|---|---|", *rows, "", "## Functions of vdm", ""]
    table = {name: f"{module}.{name}" for name, module in functions().items()}
    lines += [
        "| function | what it does |",
        "|---|---|",
        *(f"| [`vdm.{name}`][{path}] | {_first(path)} |" for name, path in table.items()),
    ]
    for path in table.values():
        if path.split(".")[1] in INTERNAL:  # the others are on the page of their module
            lines += ["", *_block(path, heading_level=3)]
    return "\n".join([*lines, ""])


def functions() -> dict[str, str]:
    """Return the module of each function of the package `vdm` itself, by name."""
    assigned = (node for node in tree_of("vdm").body if isinstance(node, ast.Assign) and _names(node) == ["FUNCTIONS"])
    return ast.literal_eval(next(assigned).value)
