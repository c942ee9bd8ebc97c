"""A classification in words: what evaluate.py --classify prints."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from vdm.evaluation.classify import Classification

MOST_ROWS = 40
"""Classes that a table on a screen may have; the file has all of them."""


def classification_lines(result: Classification, prior: str) -> str:
    """Accuracy, log-loss and cost; and what dropping classes early saved, and how often the answer was another."""
    error = "" if result.log_loss_stderr is None else f" ± {result.log_loss_stderr:.4f}"
    draws = f"{result.num_draws} draw{'s' * (result.num_draws > 1)} of each of {result.num_classes} classes"
    if result.bits_per_dim is not None:
        draws += f"; bound given the label {result.bits_per_dim:.4f} bits/dim"
    lines = [
        f"accuracy {result}, {result.num_images} images, {prior} prior; log-loss {result.log_loss:.4f}{error} nats "
        f"(± over {result.stderr_over})",
        f"{result.calls:.0f} network calls an image: {draws}; the best two classes are within two standard errors of "
        f"the draws for {result.undecided:.1%} of the images",
    ]
    cost = result.least_cost
    if cost is not None:
        low, high = cost.interval
        lines.append(
            f"classes dropped early: {cost.whole_calls / result.calls:.1f} times fewer calls than {cost.whole_calls}; "
            f"{cost.disagreements} of {cost.num_checked} checked images are classified otherwise with all draws "
            f"(95 %: {low:.1%} to {high:.1%}; asked for: {cost.error:.2%})"
        )
    return "\n".join(lines)


def classification_table(result: Classification, names: Sequence[str], title: str) -> Table:
    """Of each class its images, recall and precision, and what it is most often taken for; of many the worst."""
    rows = result.by_class
    worst = sorted(range(len(rows)), key=lambda k: (1.0 if rows[k]["recall"] is None else rows[k]["recall"], k))
    shown = sorted(worst[:MOST_ROWS])
    caption = f"{len(rows) - MOST_ROWS} classes of higher recall are in the file" if len(rows) > MOST_ROWS else None
    table = Table(title=title, caption=caption, min_width=len(title) + 4)
    for column in ("class", "images", "recall", "precision", "most often taken for"):
        table.add_column(column, justify="right" if column in ("images", "recall", "precision") else "left")
    for k in shown:
        others = np.where(np.arange(len(rows)) == k, 0, result.confusion[k])
        other = int(np.argmax(others))
        taken = f"{names[other]} ({others[other]})" if others[other] else ""
        shares = ("–" if share is None else f"{share:.3f}" for share in (rows[k]["recall"], rows[k]["precision"]))
        table.add_row(names[k], str(rows[k]["images"]), *shares, taken)
    return table
