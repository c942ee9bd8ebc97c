"""Tables of measurements: evaluations, metrics of samples, and comparisons."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from vdm.report.collect import Collected, list_of, table_of
from vdm.report.markup import Html, details, joined, table, tag
from vdm.report.numbers import brief, is_number, with_error

BESIDE = ("data", "images", "weights_digest", "unit_variances", "confusion")
"""Entries of an evaluation's file that are left out of its details."""
MOST_DETAILS = 60
KINDS = {
    "variational": "variational bound",
    "probability": "probability-flow ODE",
    "by_draws": "importance-weighted bound",
    "accuracy": "classification",
    "lines": "variance by schedule",
    "costs": "ladder network",
}


class Row(NamedTuple):
    """One row in the table of evaluations."""

    kind: str
    value: str
    terms: Html
    where: str
    images: str
    details: list[tuple[str, str]]


def evaluations(runs: Sequence[Collected]) -> Html | None:
    """Return a table with a row for each evaluation and its standard error; None if there are no evaluations."""
    head = ["evaluation", "kind", "result", "terms", "at", "images × draws"]
    rows, more = [], []
    for run in runs:
        files = ({"final": run.evaluation} if run.evaluation else {}) | run.evaluations
        for name, values in files.items():
            row = row_of(values)
            cells: list[Any] = [tag("code", name), row.kind, tag("strong", row.value), row.terms, row.where, row.images]
            rows.append([run.name, *cells] if len(runs) > 1 else cells)
            pairs: list[list[Any]] = [[key, value] for key, value in row.details]
            called = f"{run.name}: {name}" if len(runs) > 1 else name
            more.append(details(called, table(f"All of {called}", ["field", "value"], pairs)))
    if not rows:
        return None
    head = ["run", *head] if len(runs) > 1 else head
    all_fields = details("All fields of every evaluation", *more)
    return joined(table("Table of evaluations", head, rows, (len(head) - 1,)), all_fields)


def row_of(values: dict[str, Any]) -> Row:
    """Make a row from any file that `vdm evaluate` writes, telling the kind of evaluation by its entries."""
    bits = table_of(values, "bits_per_dim")
    accuracy = table_of(values, "accuracy")
    if is_number(bits.get("total")):
        value = with_error(bits["total"], bits.get("stderr"), "bits/dim")
    elif is_number(accuracy.get("mean")):
        value = with_error(accuracy["mean"], accuracy.get("stderr")) + " accuracy"
    elif is_number(values.get("total")):
        value = with_error(values["total"], None, "weighted squared error")
    else:
        value = "–"
    others = ("total", "stderr", "noise_stderr")
    terms = [
        tag("span", f"{name} {brief(term)}", class_="term")
        for name, term in bits.items()
        if name not in others and is_number(term)
    ]
    where = [f"step {brief(values['checkpoint_step'])}"] if is_number(values.get("checkpoint_step")) else []
    if "num_steps" in values and bits:
        where.append("T\u00a0=\u00a0∞" if values["num_steps"] is None else f"T\u00a0=\u00a0{values['num_steps']}")
    images = " × ".join(brief(values[name]) for name in ("num_images", "num_draws") if is_number(values.get(name)))
    return Row(_kind(values), value, joined(*terms), ", ".join(where), images or "–", list(flat(values))[:MOST_DETAILS])


def flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every value of a nested table by its dotted name; long lists are replaced by their length."""
    if isinstance(values, dict):
        for key, value in values.items():
            if name or key not in BESIDE:
                yield from flat(value, f"{name}.{key}" if name else key)
    elif isinstance(values, list) and any(isinstance(each, dict | list) for each in values):
        for k, value in enumerate(values[:10]):
            yield from flat(value, f"{name}.{k}")
    elif isinstance(values, list):
        yield name, ", ".join(map(_word, values)) if len(values) <= 12 else f"{len(values)} numbers"
    else:
        yield name, _word(values)


def metrics(runs: Sequence[Collected]) -> Html | None:
    """Return a table with each metric of each set of samples beside its value for real images; None without any."""
    rows = []
    for run in runs:
        for name, file in run.scores.items():
            num = table_of(file, "of").get("num")
            for key, score in table_of(file, "metrics").items():
                if not isinstance(score, dict):
                    continue
                unit = str(score.get("unit") or "")
                lower = score.get("lower_is_better")
                better = ("lower" if lower else "higher") if isinstance(lower, bool) else ""
                cautions = "; ".join(map(str, list_of(score, "cautions")))
                row: list[Any] = [
                    str(score.get("title", key)),
                    with_error(score.get("value"), score.get("stderr"), unit),
                ]
                row += [brief(score.get("noise_floor")), better, brief(num), joined(tag("code", name), f" {cautions}")]
                rows.append([run.name, *row] if len(runs) > 1 else row)
    head = ["metric", "samples", "real images", "better", "number", "of"]
    head = ["run", *head] if len(runs) > 1 else head
    return table("Table of metrics", head, rows) if rows else None


def comparisons(run: Collected) -> Html | None:
    """Return the tables and figures of all comparisons in the run's folder; None without any."""
    parts = []
    for name, (text, figure) in run.comparisons.items():
        parts.append(tag("h3", name))
        parts.append(markdown(text, f"{name} of {run.name}"))
        if figure is not None:
            shown = tag("img", src=figure.uri, alt=f"Figure of the comparison {name}", width=figure.width,
                        height=figure.height, loading="lazy")  # fmt: skip
            parts.append(tag("figure", shown, class_="picture"))
    return joined(*parts) if parts else None


def markdown(text: str, label: str) -> Html:
    """Convert the tables and paragraphs of a Markdown file written by `vdm compare` to HTML."""
    parts: list[Html] = []
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip():
            block.append(line.strip())
        elif block:
            parts.append(
                _table_of(block, label) if block[0].startswith("|") else tag("p", " ".join(block).strip("#* "))
            )
            block = []
    return joined(*parts)


def _table_of(lines: list[str], label: str) -> Html:
    rows: list[list[Any]] = [
        [cell.strip().replace("**", "").replace("`", "") for cell in line.strip("|").split("|")]
        for line in lines
        if set(line) - set("|-: ")
    ]
    return table(f"Comparison {label}", rows[0], rows[1:], tuple(range(1, len(rows[0])))) if rows else joined()


def _kind(values: dict[str, Any]) -> str:
    said = str(values.get("kind", ""))
    if "probability-flow" in said:
        return KINDS["probability"]
    return next(
        (KINDS[name] for name in ("by_draws", "lines", "costs", "accuracy") if name in values), KINDS["variational"]
    )


def _word(value: Any) -> str:
    return brief(value, 6) if is_number(value) else str(value)
