"""README.md of a released model: its card.json as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from vdm.progress import duration
from vdm.runs.places import PREFIX


def as_markdown(card: Mapping[str, Any]) -> str:
    """Format a card as Markdown."""
    name, data, training = card["name"], card["data"], card["training"]
    lines = [f"# {PREFIX}{name}", ""]
    lines += [card["description"], ""] if card["description"] else []
    lines += [
        "```python",
        "import vdm",
        "",
        f'run = vdm.open_run("{PREFIX}{name}")',
        "```",
        "",
        "## Data",
        "",
        f"{data.get('name')}, version {data.get('version')}: {data.get('num_train')} training and "
        f"{data.get('num_test')} test items of shape {_shape(data.get('shape', []))}, {_values(data)} "
        f"({data.get('preprocessing')}).",
        "",
        f"Licence of the data: {card['data_licence']}.",
        "",
        "## Training",
        "",
        "```sh",
        *training["commands"],
        "```",
        "",
        *_table(["", ""], training_rows(card)),
        "",
        "## Bounds on the test data",
        "",
        "Lower is better. Bounds of different kinds are not comparable. ± is one standard error over test items, or",
        "over their groups where the data have groups.",
        "",
        *_table(["bound", "bits/dim", "test items", "draws of each", "command"], map(_bound_row, card["bounds"])),
    ]
    if card["metrics"]:
        head = ["metric", "samples", "as many real images", "better", "number of samples", "command"]
        lines += ["", "## Samples", "", *_table(head, map(_metric_row, card["metrics"]))]
    files = card.get("files", {})
    lines += ["", "## Files", "", *_table(["file", "bytes", "SHA-256"], map(_file_row, files.items()))]
    return "\n".join([*lines, "", f"Licence of the weights: {card['licence']}.", ""])


def bound_name(bound: Mapping[str, Any]) -> str:
    """Describe the kind of a bound.

    >>> bound_name({"kind": "variational", "T": 10, "given": "label"})
    'variational, T = 10, given label'
    """
    given = bound["given"] if bound["given"].endswith("dropped") else bound["given"] and f"given {bound['given']}"
    if bound["kind"] == "ode":
        return ", ".join(filter(None, ("probability-flow ODE", given)))
    kind = "variational" if bound["kind"] == "variational" else f"importance-weighted, {bound['draws']} draws"
    steps = "continuous time" if bound["T"] is None else f"T = {bound['T']}"
    return ", ".join(filter(None, (kind, steps, given, bound.get("precision"))))


def training_rows(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Facts about the training, as pairs of a name and a text."""
    training = card["training"]
    yield "parameters", f"{card['parameters']:,}"
    yield "steps", str(card["step"])
    yield "seed", str(training["seed"])
    if "init_from" in card:
        yield "started from", "{run}, checkpoint {checkpoint}".format(**card["init_from"])
    yield "machine", training["machine"] or "not stated"
    if training["seconds_in_steps"] is not None:
        yield "time in training steps", duration(training["seconds_in_steps"])
    versions = training["versions"] or {}
    yield (
        "versions",
        ", ".join(
            [f"vdm {card['vdm']}", *(f"{name} {versions[name]}" for name in ("jax", "flax") if name in versions)]
        ),
    )
    yield "git revision", training["git_revision"] or "not in a checkout"


def value(number: float, stderr: float) -> str:
    """Format a number with its standard error, to two significant digits of the error.

    >>> value(1.830163, 0.0137)
    '1.830 ± 0.014'
    """
    digits = max(0, 1 - int(f"{stderr:.0e}".partition("e")[2])) if stderr > 0 else 4
    return f"{number:.{digits}f} ± {stderr:.{digits}f}".replace("-", "−")


def _bound_row(bound: Mapping[str, Any]) -> tuple[str, ...]:
    number = value(bound["bits_per_dim"], bound["stderr"])
    return bound_name(bound), number, str(bound["images"]), str(bound["draws"]), _code(bound["command"])


def _metric_row(metric: Mapping[str, Any]) -> tuple[str, ...]:
    floor = "unknown" if metric["noise_floor"] is None else f"{metric['noise_floor']:.3g}"
    better = "lower" if metric["lower_is_better"] else "higher"
    number = value(metric["value"], metric["stderr"])
    return metric["title"], number, floor, better, str(metric["samples"]), _code(metric["command"])


def _file_row(file: tuple[str, Mapping[str, Any]]) -> tuple[str, ...]:
    name, of = file
    return name, f"{of['bytes']:,}", f"`{of['sha256']}`"


def _code(command: str) -> str:
    return f"`{command}`" if command else "at the end of training"


def _shape(shape: Any) -> str:
    return "×".join(map(str, shape))


def _values(data: Mapping[str, Any]) -> str:
    levels = data.get("levels")
    return f"values 0 to {levels - 1}" if levels else "real values"


def _table(head: list[str], rows: Any) -> list[str]:
    made = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *made]
    return ["| " + " | ".join(row) + " |" for row in lines]
