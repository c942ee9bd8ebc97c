"""Tables of the runs' configs, which mark what differs from the defaults or between runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from vdm import settings
from vdm.report.collect import Collected
from vdm.report.markup import Html, joined, scrolling, tag
from vdm.report.numbers import shown_value
from vdm.runs.records import RUNS, what

FILLED = ("data.shape", "data.levels", "data.classes", "data.entries", "data.vocabulary")
"""Fields that are filled in from the data, and so differ from their defaults in every run."""
NOT_THERE = object()


class Known(NamedTuple):
    """The default and the description of a config field."""

    default: Any
    doc: str


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables to one table with dotted names, as in {"training.steps": 100, …}.

    >>> flat({"seed": 0, "training": {"steps": 3}})
    {'seed': 0, 'training.steps': 3}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def known(config: dict[str, Any]) -> dict[str, Known]:
    """Return the fields of the config's class by name, or {} if `vdm train` does not know its task."""
    by_task = {what({"task": kind().task} if hasattr(kind(), "task") else {}): kind for kind in RUNS}
    kind = by_task.get(what(config))
    if kind is None:
        return {}
    return {each.name: Known(_as_json(each.value), each.doc) for each in settings.settings(kind())}


def differing(runs: Sequence[Collected]) -> list[str]:
    """Return the names of the fields that differ between the runs."""
    configs = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    return [
        name
        for name in names
        if any(config.get(name, NOT_THERE) != configs[0].get(name, NOT_THERE) for config in configs)
    ]


def of_one(run: Collected) -> Html:
    """Return a table of every field with its default and meaning; rows that differ from the default are marked."""
    fields, values = known(run.config), flat(run.config)
    changed = {
        name
        for name, value in values.items()
        if name in fields and value != fields[name].default and name not in FILLED
    }
    rows = [
        (name, name in changed, [shown_value(value), shown_value(fields[name].default) if name in fields else "–",
                                 fields[name].doc if name in fields else ""])
        for name, value in values.items()
    ]  # fmt: skip
    named = f"{len(changed)} of {len(values)} fields differ from their defaults"
    return _table(["value", "default", "meaning"], rows, "Show only what differs from the defaults", named)


def of_several(runs: Sequence[Collected]) -> Html:
    """Return a table of every field in every run; rows that differ between runs are marked."""
    configs, between = [flat(run.config) for run in runs], differing(runs)
    names = dict.fromkeys(name for config in configs for name in config)
    rows = [
        (name, name in between, [shown_value(config[name]) if name in config else "–" for config in configs])
        for name in names
    ]
    named = f"{len(between)} of {len(names)} fields differ between the runs"
    return _table([run.name for run in runs], rows, "Show only what differs between the runs", named)


def _table(head: list[str], rows: list[tuple[str, bool, list[str]]], only: str, named: str) -> Html:
    """Make a table with a search field and a check box, which need report.js; without it every row is shown."""
    filters = tag(
        "div",
        tag(
            "label", "Find a field ", tag("input", type="search", class_="find", autocomplete="off", spellcheck="false")
        ),
        tag("label", tag("input", type="checkbox", class_="only"), " ", only),
        class_="filters js",
    )
    columns = [tag("th", name, scope="col") for name in ("field", *head)]
    body = [
        tag(
            "tr",
            tag("th", tag("code", name), tag("span", "differs", class_="mark") if changed else None, scope="row"),
            *(tag("td", tag("code", cell) if head[k] != "meaning" else _prose(cell)) for k, cell in enumerate(cells)),
            class_="changed" if changed else None,
        )
        for name, changed, cells in rows
    ]
    whole = tag(
        "table",
        tag("thead", tag("tr", *columns)),
        tag("tbody", *body),
        class_="config defaults" if "meaning" in head else "config",
    )
    said = tag("p", named, ".", class_="said", role="status")
    return tag("div", joined(said, filters, scrolling("Fields of the config", whole)), class_="filtered")


def _prose(text: str) -> Html:
    """Mark up the parts of a text between backticks as code."""
    return joined(*(tag("code", part) if k % 2 else part for k, part in enumerate(text.split("`"))))


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
