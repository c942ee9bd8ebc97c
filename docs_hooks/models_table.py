"""Tables of the released models, from the cards in models/: what they are, their bounds by kind, and their samples."""

import json
from collections.abc import Iterable, Sequence
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
BOUND = ["model", "bound", "bits/dim", "test items × draws", "command"]
METRIC = ["model", "metric", "samples", "as many real images", "better", "images", "command"]
MODEL = ["model", "data", "test items", "parameters", "MB", "steps", "time in steps", "command"]


class Numbered:
    """Replaces commands in tables by numbers, and lists the commands."""

    def __init__(self) -> None:
        self._commands: list[str] = []

    def __call__(self, command: str) -> str:
        if command not in self._commands:
            self._commands.append(command)
        return f"({self._commands.index(command) + 1})"

    def lines(self) -> list[str]:
        """Return the lines of a shell block: each command after a comment with its number."""
        return [line for number, command in enumerate(self._commands, 1) for line in (f"# ({number})", command)]


def models_table() -> str:
    """Return Markdown tables of the models, of bounds by kind and of samples, with the commands behind the numbers."""
    cards = [json.loads(path.read_text()) for path in sorted(MODELS.glob("[!.]*/card.json"))]
    numbered = Numbered()
    lines = _section("What they are", MODEL, [_model(card, numbered) for card in cards])
    for kind, title in KINDS.items():
        found = [(card["name"], bound) for card in cards for bound in card["bounds"] if bound["kind"] == kind]
        lines += _section(title, BOUND, [_bound(*each, numbered) for each in found])
    found = [(card["name"], metric) for card in cards for metric in card["metrics"]]
    lines += _section("Sample quality", METRIC, [_metric(*each, numbered) for each in found])
    return "\n".join([*lines, "### The commands", "", "```sh", *numbered.lines(), "```"])


def _model(card: dict[str, Any], numbered: Numbered) -> list[str]:
    data, training = card["data"], card["training"]
    size = sum(file["bytes"] for file in card["files"].values()) / 1e6
    seconds = training["seconds_in_steps"]
    return [
        *(card["name"], data["name"], f"{data['num_test']:,}", f"{card['parameters']:,}", f"{size:.1f}"),
        *(str(card["step"]), "not logged" if seconds is None else duration(seconds)),
        " ".join(map(numbered, training["commands"])),
    ]


def _bound(name: str, bound: dict[str, Any], numbered: Numbered) -> list[str]:
    number = value(bound["bits_per_dim"], bound["stderr"])
    return [name, bound_name(bound), number, f"{bound['images']} × {bound['draws']}", numbered(bound["command"])]


def _metric(name: str, metric: dict[str, Any], numbered: Numbered) -> list[str]:
    floor = "unknown" if metric["noise_floor"] is None else f"{metric['noise_floor']:.3g}"
    better = "lower" if metric["lower_is_better"] else "higher"
    unit = f", {metric['unit']}" if metric["unit"] else ""
    number = value(metric["value"], metric["stderr"])
    return [name, metric["title"] + unit, number, floor, better, str(metric["samples"]), numbered(metric["command"])]


def _section(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a section with a table; nothing for a table without rows."""
    made = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    table = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *made)]
    return [f"### {title}", "", *table, ""] if made else []
