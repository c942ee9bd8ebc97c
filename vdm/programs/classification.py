"""Results of a classification as text: what `vdm evaluate --classify` prints."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from vdm.evaluation.classify import Classification

MOST_ROWS = 40
"""Number of classes at most that the printed table lists; the file has all of them."""


def classification_lines(result: Classification, prior: str) -> str:
    """Return lines with accuracy, log-loss and cost.

    Where classes were dropped early, also how many network calls that saved and how often it changed the answer.
    """
    error = "" if result.log_loss_stderr is None else f" ± {result.log_loss_stderr:.4f}"
    draws = f"{result.num_draws} draw{'s' * (result.num_draws > 1)} of each of {result.num_classes} classes"
    if result.bits_per_dim is not None:
        draws += f"; bound given the label {result.bits_per_dim:.4f} bits/dim"
    lines = [
        f"accuracy {result}, {result.num_images} images, {prior} prior; log-loss {result.log_loss:.4f}{error} nats "
        f"(± over {result.stderr_over})",
        f"{result.calls:.0f} network calls per image: {draws}; the best two classes are within two standard errors of "
        f"the draws for {result.undecided:.1%} of the images",
    ]
    cost = result.least_cost
    if cost is not None:
        low, high = cost.interval
        lines.append(
            f"classes dropped early: {cost.whole_calls / result.calls:.1f} times fewer calls than {cost.whole_calls}; "
            f"{cost.disagreements} of {cost.num_checked} checked images are classified differently with all draws "
            f"(95 %: {low:.1%} to {high:.1%}; allowed: {cost.error:.2%})"
        )
    return "\n".join(lines)


def classification_table(result: Classification, names: Sequence[str], title: str) -> Table:
    """Return a table with each class's images, recall, precision and the class that it is most often mistaken for.

    Of more than `MOST_ROWS` classes, those of lowest recall are listed.
    """
    rows = result.by_class
    worst = sorted(range(len(rows)), key=lambda k: (1.0 if rows[k]["recall"] is None else rows[k]["recall"], k))
    shown = sorted(worst[:MOST_ROWS])
    caption = f"{len(rows) - MOST_ROWS} classes of higher recall are in the file" if len(rows) > MOST_ROWS else None
    table = Table(title=title, caption=caption, min_width=len(title) + 4)
    for column in ("class", "images", "recall", "precision", "most often mistaken for"):
        table.add_column(column, justify="right" if column in ("images", "recall", "precision") else "left")
    for k in shown:
        others = np.where(np.arange(len(rows)) == k, 0, result.confusion[k])
        other = int(np.argmax(others))
        taken = f"{names[other]} ({others[other]})" if others[other] else ""
        shares = ("–" if share is None else f"{share:.3f}" for share in (rows[k]["recall"], rows[k]["precision"]))
        table.add_row(names[k], str(rows[k]["images"]), *shares, taken)
    return table
