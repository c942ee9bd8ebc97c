"""Score images against real ones by the field's metrics, make reference statistics, or convert extractors' weights.

vdm metrics score runs/digits/samples/step_2000_seed_0_T_250_ancestral digits --metrics=mmd
vdm metrics score pictures/ cifar10 --metrics=fid,kid,recall --weights=weights/
vdm metrics score pictures/ cifar10_statistics.npz --metrics=fid --weights=weights/
vdm metrics convert pt_inception-2015-12-05-6726825d.pth --out=weights/
vdm metrics statistics cifar10@train --extractor=inception --out=cifar10_statistics.npz --weights=weights/

SAMPLES and REAL are each a folder of samples written by vdm sample, a folder of pictures, an npz file of images, or the
name of a data set, such as digits or cifar10@test; REAL may also be an npz file of statistics (mu, sigma).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vdm import parts
from vdm.errors import InputError
from vdm.evaluation.metrics.convert import convert
from vdm.evaluation.metrics.features import BATCH
from vdm.evaluation.metrics.published import NETWORKS
from vdm.files import check_writable
from vdm.programs import compilation, scores, streams
from vdm.programs.arguments import Parser
from vdm.programs.asked import Asked, names_of
from vdm.programs.named_images import real_of, samples_of

STATISTICS = """Save the mean and covariance of real images' features in a file that vdm metrics score takes as REAL.

vdm metrics statistics cifar10@train --extractor=inception --out=cifar10_statistics.npz --weights=weights/
vdm metrics statistics pictures/ --extractor="dinov2(size='b')" --out=pictures_statistics.npz

DATA is a folder of pictures, an npz file of images, or the name of a data set, such as digits or cifar10@test.
"""

CONVERT = f"""Convert the published weights of an extractor into a file that --weights and VDM_WEIGHTS take.

vdm metrics convert pt_inception-2015-12-05-6726825d.pth --out=weights/ --python=/usr/bin/python3

Known weights: {", ".join(f"{network.file} ({name})" for name, network in NETWORKS.items())}. PyTorch is needed only
here, to read a .pth, and may be in any interpreter on this machine.
"""

MAX_BATCH = 1 << 20


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the first argument says; bad input is one line on stderr and exit status 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    actions = {"score": _score, "statistics": _statistics, "convert": _convert}
    if words[:1] and words[0] in actions:
        actions[words[0]](words[1:])
        return
    parser = Parser("vdm metrics", f"{__doc__}\n\nThe metrics:\n{_listed()}")
    parser.add_argument("action", choices=list(actions), help="`vdm metrics ACTION --help` has its arguments")
    parser.parse_args(words)


def _listed() -> str:
    described = parts.describe("metric")
    width = max(map(len, described))
    return "\n".join(f"{name:<{width}}  {line}" for name, line in described.items())


def _common(parser: Parser) -> None:
    parser.add_argument("--weights", type=Path, help="file or folder of extractors' weights (default: VDM_WEIGHTS)")
    parser.add_argument("--classifier", type=Path, help="folder of a classifier (default: one trained on the data)")
    parser.add_argument("--levels", type=int, help="values that a pixel can take (default: the data's, 256)")
    parser.add_argument("--batch_size", type=int, default=BATCH, help=f"images per network call (default: {BATCH})")


def _score(argv: Sequence[str]) -> None:
    parser = Parser("vdm metrics score", f"{__doc__}\n\nThe metrics:\n{_listed()}")
    parser.add_argument("samples", help="images to be measured")
    parser.add_argument("real", help="real images to compare with")
    parser.add_argument("--metrics", required=True, help=f"some of {', '.join(parts.names('metric'))}")
    parser.add_argument("--out", type=Path, help="folder for metrics.json and metrics.md (default: none)")
    _common(parser)
    given = parser.parse_args(argv)
    with parser.one_line():
        asked = _asked(given, names_of(given.metrics))
        if given.out is not None:
            check_writable(given.out, "--out")
        console = streams.make_console()
        real, dataset = real_of(given.real, given.levels, console)
        levels = given.levels or (256 if dataset is None else dataset.info.levels)
        samples = samples_of(given.samples, levels, console)
        shape = samples.shape if dataset is None else dataset.info.shape
        num, labelled = len(samples.source), samples.labels is not None
        quality = asked.quality(real, levels, shape, num, labelled, console, lambda: dataset)
        needed = any(metric.labels for metric in quality.metrics.values())
        labels = samples.labels() if needed and samples.labels is not None else None
        measured = scores.measured(quality, samples.source, labels)
        console.print(scores.table(measured, f"{given.samples}: {num} images"), soft_wrap=False)
        if given.out is not None:
            scores.write(given.out, measured, given.samples, samples.of, num, real)
            console.print(f"wrote {given.out}/metrics.json and metrics.md", soft_wrap=True)


def _statistics(argv: Sequence[str]) -> None:
    parser = Parser("vdm metrics statistics", STATISTICS)
    parser.add_argument("data", help="the images: DATA@SPLIT, a folder or an npz file")
    parser.add_argument("--extractor", default="inception", help="feature extractor (default: inception)")
    parser.add_argument("--output", help="which of the extractor's outputs (default: the first)")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    _common(parser)
    given = parser.parse_args(argv)
    with parser.one_line():
        if given.out.suffix != ".npz":
            raise InputError(f"--out={given.out}: must end in .npz")
        check_writable(given.out.parent, "--out")
        console = streams.make_console()
        made = _asked(given, ()).statistics(given.data, given.levels, given.extractor, given.output, console)
        made._replace(path=given.out).write()
        console.print(
            f"wrote {given.out}: {len(made.moments.mean)} features ({made.output} of {made.extractor}) of "
            f"{made.moments.num} images ({made.of})",
            soft_wrap=True,
        )


def _convert(argv: Sequence[str]) -> None:
    parser = Parser("vdm metrics convert", CONVERT)
    parser.add_argument("source", type=Path, help=".pth or .safetensors file of published weights")
    parser.add_argument("--out", type=Path, help="file or folder to write to (default: beside the source)")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has PyTorch (default: this one)")
    given = parser.parse_args(argv)
    with parser.one_line():
        print(convert(given.source, given.out, given.python).report)


def _asked(given: argparse.Namespace, names: Sequence[str]) -> Asked:
    if not 1 <= given.batch_size <= MAX_BATCH:
        raise InputError(f"--batch_size={given.batch_size}: must be from 1 to {MAX_BATCH}")
    compilation.keep()
    return Asked(names, given.weights, given.classifier, given.batch_size)
