"""Methods of restoration by operator on a trained run: PSNR, sample metrics and cost, in a growing JSON file.

    python benchmarks/restoration.py --run=runs/photos32 --file=restoration.json --num=64 --draws=4

Each method restores the same test images from the same measurements. The figures are PSNR in dB of the measurement, of
a draw and of the mean of the draws, and the residual y - A x in units of x, with standard errors over images (or over
groups, if the data have them); the metrics of `vdm evaluate --metrics` against training images, for the first draw of
each image and for the true images; and the network calls, gradients and seconds per draw, without compilation. Pairs
that cannot be combined, such as RePaint and a blur, are left out. What the file already contains is not measured again,
so the command can be repeated after an interruption or with more methods.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console

from vdm import parts
from vdm.data import Arrays
from vdm.errors import InputError
from vdm.evaluation.edited import Editor, measured, restored
from vdm.evaluation.metrics.scoring import Real
from vdm.files import write_json
from vdm.keys import Stream
from vdm.programs import scores
from vdm.programs.arguments import Parser
from vdm.programs.asked import Asked, names_of
from vdm.programs.editing import Editing, Images, add_flags, made
from vdm.programs.restore import check, check_noise, cost, quality
from vdm.reading import read_json

OPERATORS = "blur(1.5),downsample(4),gray,missing(0.7),box(12)"
METHODS = "dps,pigdm,proximal,mmps,repaint(10)"


def main() -> None:
    """Measure the pairs that are missing and print a line for each."""
    parser = Parser("restoration.py", __doc__)
    parser.add_argument("--operators", default=OPERATORS, help=f"default: {OPERATORS}")
    parser.add_argument("--methods", default=METHODS, help=f"default: {METHODS}")
    parser.add_argument("--noise", type=float, default=0.05, help="its standard deviation (default: 0.05)")
    parser.add_argument("--num", type=int, default=64, help="test images (default: 64)")
    parser.add_argument("--metrics", default="mmd", help="of samples (default: mmd)")
    parser.add_argument("--file", type=Path, required=True, help="the JSON file")
    add_flags(parser)
    given = parser.parse_args()
    with parser.one_line():
        _run(given, Console(stderr=True))


def _run(given: argparse.Namespace, console: Console) -> None:
    check_noise(given.noise)
    editing = Editing.of(given, "restorations", console)
    images, run = editing.of_test(given.num), editing.run
    score = _scorer(editing, images, given.metrics)
    found = read_json(given.file, {})
    of = editing.record(images, noise=given.noise, metrics=given.metrics)
    if found.setdefault("of", of) != of:
        raise InputError(f"--file={given.file}: is of other settings; move it away")
    rows = found.setdefault("rows", [])
    found.setdefault("true", score(images.images))
    write_json(given.file, found)
    done = {(row["operator"], row["method"]) for row in rows}
    for operator_text in parts.texts(given.operators):
        operator = made("operators", "operator", operator_text, shape=tuple(run.model.shape))
        x = jnp.asarray(editing.encoded(images))
        y = measured(run.key(Stream.MEASUREMENT, editing.seed), operator, x, given.noise)
        for method in parts.texts(given.methods):
            restoration = made("methods", "restoration", method)
            try:
                check(restoration, operator, method)
            except InputError:
                continue
            if (operator_text, method) in done:
                continue
            editor = editing.editor(restored(restoration, operator, given.noise))
            drawn, seconds = _timed(editor, editing, images, y)
            row = {
                "operator": operator_text,
                "method": method,
                **quality(operator, drawn, images, y, run.model.levels),
                **cost(restoration, operator, editing.settings),
                "seconds_per_draw": seconds,
                "metrics": score(drawn[:, 0]),
            }
            rows.append(row)
            write_json(given.file, found)
            console.print(_line(row), soft_wrap=True)


def _timed(editor: Editor, editing: Editing, images: Images, y: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Return all draws and the seconds per draw without the first batch, which compiles; None if it is the only one."""
    run, marks = editing.run, list[tuple[int, float]]()
    drawn = editor(
        run.variables,
        run.key(Stream.SAMPLING, editing.seed),
        editing.draws,
        {"y": y},
        editing.conditions(images),
        lambda done, total: marks.append((done, time.perf_counter())),
    )
    (first, start), (last, end) = marks[0], marks[-1]
    return drawn, (end - start) / (last - first) if last > first else None


def _scorer(editing: Editing, images: Images, metrics: str) -> Any:
    """Return a function from images to their metrics against training images."""
    run, dataset, num = editing.run, editing.run.dataset, len(images.images)
    real = Real.of(dataset, "train")
    shape = tuple(run.model.shape)
    quality_of = Asked(names_of(metrics)).quality(
        real, run.model.levels, shape, num, False, editing.console, lambda: dataset, run.mesh
    )
    return lambda each: {
        name: score.to_dict() for name, score in scores.measured(quality_of, Arrays({"image": each})).items()
    }


def _line(row: dict[str, Any]) -> str:
    mean, draw = row["psnr_mean"], row["psnr_draw"]
    return f"{row['operator']} {row['method']}: {draw['value']:.2f}, mean {mean['value']:.2f} dB"


if __name__ == "__main__":
    main()
