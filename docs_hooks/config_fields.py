"""Every field of every config with its type, default, limits and meaning, taken from the dataclasses."""

import ast
import dataclasses
import inspect
from collections.abc import Iterator

from docs_hooks.markup import entry, prose
from vdm import settings
from vdm.annotations import describe
from vdm.classifier import ClassifierConfig
from vdm.comparisons import modes
from vdm.config import Config
from vdm.image_text import ImageTextConfig
from vdm.predecessors.config import PredecessorConfig
from vdm.programs import config_files
from vdm.settings import Setting

AFFECTS = {"model": "part of the model", "training": "part of the run", "running": "free to change"}
"""What depends on a field, in the words of the page."""

CONFIGS: dict[type, tuple[str, str]] = {
    Config: ("Diffusion models", "config"),
    PredecessorConfig: ("The models before diffusion", "config"),
    ClassifierConfig: ("Classifiers of noisy images", "config"),
    ImageTextConfig: ("Image–text models of noisy images", "config"),
} | {modes.load(name).settings: (f"vdm compare --by={name}", "comparison") for name in modes.MODES}
"""Classes whose fields the command line sets, with their heading and the prefix of their flags (--config.FIELD)."""


def config_fields() -> str:
    """Return the page's Markdown, with a section for each class and a subsection for each group of fields."""
    seen: dict[type, type] = {}
    return "\n\n".join(part for kind in CONFIGS for part in _section(kind, seen))


def configs() -> str:
    """Return a table of the configs that ship with vdm."""
    rows = []
    for name in config_files.names():
        text = ast.get_docstring(ast.parse((config_files.FOLDER / f"{name}.py").read_text())) or ""
        rows.append((name, " ".join(text.split("\n\n")[0].split())))
    return "\n".join(
        ["| `--config=` | what it trains |", "|---|---|", *(f"| `{n}` | {prose(line)} |" for n, line in rows)]
    )


def anchor(kind: type) -> str:
    """Return the anchor of a class's section on the page."""
    return kind.__name__.lower()


def _section(kind: type, seen: dict[type, type]) -> Iterator[str]:
    """Yield a section; `seen` maps the class of each group to the class of config where it is listed."""
    yield f"## {CONFIGS[kind][0]} {{#{anchor(kind)}}}"
    yield prose(inspect.getdoc(kind) or "")
    fields = list(settings.settings(kind()))
    yield from (_entry(kind, field) for field in fields if "." not in field.name)
    groups = {f.name: type(getattr(kind(), f.name)) for f in dataclasses.fields(kind)}
    for group, of in groups.items():
        if not dataclasses.is_dataclass(of):
            continue
        inside = [field for field in fields if field.name.startswith(f"{group}.")]
        yield f"### {group} {{#{anchor(kind)}-{group}}}"
        if of in seen:
            inside = _differing(inside, seen[of])
            others = ", with these defaults:" if inside else "."
            yield f"As [`{group}` of {CONFIGS[seen[of]][0].lower()}](#{anchor(seen[of])}-{group}){others}"
        else:
            seen[of] = kind
            yield prose(inspect.getdoc(of) or "")
        yield from (_entry(kind, field) for field in inside)


def _differing(fields: list[Setting], other: type) -> list[Setting]:
    """Return the fields whose default differs from that in another class."""
    of_other = {field.name: field.value for field in settings.settings(other())}
    return [field for field in fields if field.value != of_other.get(field.name)]


def _entry(kind: type, field: Setting) -> str:
    flag = f"`--{CONFIGS[kind][1]}.{field.name}={field.value!r}`"
    about = f"{describe(field.annotation)} · {AFFECTS[field.affects]}"
    return entry(f'<span id="{anchor(kind)}.{field.name}"></span>{flag}', prose(field.help), f"*{prose(about)}*")
