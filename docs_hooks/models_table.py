"""Tables of the released models, from the cards in models/: what each is, its bounds by kind, and its samples."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vdm.progress import duration
from vdm.runs.card_text import bound_name, value

MODELS = Path(__file__).parents[1] / "models"
KINDS = {
    "variational": "Variational bounds",
    "importance": "Importance-weighted bounds",
    "ode": "Bounds by the probability-flow ODE",
}


def models_table() -> str:
    """Markdown: a table of models, one of bounds for each kind, one of samples, and the training commands."""
    cards = [json.loads(path.read_text()) for path in sorted(MODELS.glob("*/card.json"))]
    lines = ["### What they are", ""]
    lines += _table(["model", "data", "test items", "parameters", "MB", "steps", "time in steps"], map(_model, cards))
    for kind, title in KINDS.items():
        rows = [row for card in cards for row in _bounds(card, kind)]
        if rows:
            lines += ["", f"### {title}", "", *_table(["model", "bound", "bits/dim", "test items × draws", "command"], rows)]
    rows = [row for card in cards for row in _metrics(card)]
    head = ["model", "metric", "samples", "as many real images", "better", "images", "command"]
    lines += ["", "### Sample quality", "", *_table(head, rows)]
    lines += ["", "### Training commands", "", "```sh"]
    lines += [command for card in cards for command in card["training"]["commands"]]
    return "\n".join([*lines, "```"])


def _model(card: dict[str, Any]) -> list[str]:
    data, training, size = card["data"], card["training"], sum(file["bytes"] for file in card["files"].values())
    seconds = training["seconds_in_steps"]
    time = "not logged" if seconds is None else duration(seconds)
    num_test = f"{data['num_test']:,}"
    return [
        _name(card),
        data["name"],
        num_test,
        f"{card['parameters']:,}",
        f"{size / 1e6:.1f}",
        str(card["step"]),
        time,
    ]


def _bounds(card: dict[str, Any], kind: str) -> Iterator[list[str]]:
    for bound in card["bounds"]:
        if bound["kind"] == kind:
            number = value(bound["bits_per_dim"], bound["stderr"])
            items = f"{bound['images']} × {bound['draws']}"
            by_training = bound["command"] in card["training"]["commands"]
            yield [
                _name(card),
                bound_name(bound),
                number,
                items,
                "training" if by_training else f"`{bound['command']}`",
            ]


def _metrics(card: dict[str, Any]) -> Iterator[list[str]]:
    for metric in card["metrics"]:
        floor = "unknown" if metric["noise_floor"] is None else f"{metric['noise_floor']:.3g}"
        better = "lower" if metric["lower_is_better"] else "higher"
        number = value(metric["value"], metric["stderr"])
        command = f"`{metric['command']}`"
        yield [_name(card), metric["title"], number, floor, better, str(metric["samples"]), command]


def _name(card: dict[str, Any]) -> str:
    return f"`vdm:{card['name']}`"


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(row)} |" for row in lines]
