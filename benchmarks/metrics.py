"""Time and memory of each metric on random features in files, as one JSON object.

    python benchmarks/metrics.py --num=50000 --dims=2048
    python benchmarks/metrics.py --metrics='fid;kid' --num=5000

Each metric runs in its own process, whose peak memory is reported, including the resident part of memory maps.
`prepare` processes the real images, which are as many as the samples; `estimate` includes compilation; `again` is a
second estimate. Nothing is asserted; compare figures from the same, otherwise idle machine.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vdm import parts
from vdm.evaluation.metrics import Reference

METRICS = "fid;fid_infinity;inception_score;kid;precision;recall;density;coverage;memorization;mmd"
ROWS = 1024


def make(path: Path, num: int, dims: int, seed: int) -> None:
    """Write correlated, nonnegative features, like pooled activations, whose variances span two decades."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(dims, dims)).astype(np.float32)
    mixing *= np.geomspace(1, 0.1, dims, dtype=np.float32)[:, None] / np.float32(np.sqrt(dims))
    with path.open("wb") as file:
        for start in range(0, num, ROWS):
            noise = rng.normal(size=(min(ROWS, num - start), dims)).astype(np.float32)
            file.write(np.maximum(noise @ mixing + 0.1, 0).tobytes())


def measure(name: str, folder: Path, dims: int) -> dict[str, Any]:
    """Measure a metric in this process, with the features in the folder."""
    real, others, samples = (
        np.memmap(folder / f"{which}.f32", np.float32, "r").reshape(-1, dims) for which in ("real", "others", "samples")
    )
    seconds, cpu_seconds = {}, {}

    def timed(what: str, run: Callable[[], Any]) -> Any:
        start, start_cpu = time.perf_counter(), time.process_time()
        result = run()
        seconds[what] = round(time.perf_counter() - start, 3)
        cpu_seconds[what] = round(time.process_time() - start_cpu, 3)
        return result

    # Starting the devices does not count as part of the metric.
    start_bytes = _peak(jax.devices())
    made = timed("prepare", lambda: parts.make("metric", name).prepare(Reference.of(real, others)))
    estimate = timed("estimate", lambda: made.estimate(samples))
    timed("again", lambda: made.estimate(samples))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": round(_peak() / 1e6),
        "start_mb": round(start_bytes / 1e6),
        "value": estimate.value,
        "stderr": estimate.stderr,
    }


def _peak(*_: Any) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=5000, help="real images, and samples")
    parser.add_argument("--dims", type=int, default=2048, help="features of an image")
    parser.add_argument("--metrics", default=METRICS, help="parts of kind metric, with ; between them")
    parser.add_argument("--of", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.metrics.split(";")
    if options.of:
        print(json.dumps(measure(names[0], Path(options.of), options.dims)))
        return
    try:
        for name in names:
            parts.check("metric", name)
    except parts.PartError as error:
        parser.error(str(error))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed, which in enumerate(("real", "others", "samples")):
            make(Path(folder) / f"{which}.f32", options.num, options.dims, seed)
        for name in names:
            command = [sys.executable, __file__, f"--metrics={name}", f"--dims={options.dims}", f"--of={folder}"]
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            failed = said.returncode != 0
            found[name] = {"failed": said.stderr.strip().splitlines()[-1:]} if failed else json.loads(said.stdout)
            print(f"{name}: {found[name]}", file=sys.stderr)
    print(json.dumps({"num": options.num, "dims": options.dims, "metrics": found}, indent=1))


if __name__ == "__main__":
    main()
