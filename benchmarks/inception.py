"""Images per second of FID's Inception-v3, with random weights, optionally beside torch-fidelity's, as one JSON object.

    python benchmarks/inception.py --batch_sizes=16,64
    python benchmarks/inception.py --peer=/path/to/python

`--peer` is the path of an interpreter with torch-fidelity. It receives the same weights and images, its features are
compared, and the two alternate; `times_as_fast` is the median ratio of their times. Each time covers all images, from
uint8 in memory to features in memory. Nothing is asserted; run it on an otherwise idle machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from train_step import machine

from vdm import parallel
from vdm.evaluation.metrics.extractors import Extractor, inception
from vdm.evaluation.metrics.features import Extraction
from vdm.evaluation.metrics.published import NETWORKS


def random_state() -> dict[str, Any]:
    """Return random weights under which features keep about the same size from layer to layer."""
    rng = np.random.default_rng(0)
    state = {}
    for name, shape in NETWORKS["inception"].tensors.items():
        kernel = len(shape) > 1
        scale = (2 / np.prod(shape[1:])) ** 0.5 if kernel else 0.1
        center = 0.0 if kernel or name.endswith(("bias", "mean")) else 1.0
        state[name] = (center + scale * rng.standard_normal(shape)).astype(np.float32)
    return state


def ours(extractor: Extractor, images: np.ndarray, batch_size: int) -> tuple[Callable[[], np.ndarray], dict[str, Any]]:
    """Return (a function that computes the features of all images, the figures of its compilation)."""
    mesh = parallel.make_mesh()
    extraction = Extraction(extractor, ("pool",), mesh, batch_size)
    source = [{"image": image} for image in images]
    start = time.perf_counter()
    variables = jax.device_put(extractor.variables, parallel.replicated(mesh))
    batch = jax.ShapeDtypeStruct(
        (extraction.batch_size, *images.shape[1:]), np.uint8, sharding=parallel.batch_sharding(mesh)
    )
    compiled = jax.jit(extractor.apply, static_argnums=2).lower(variables, batch, ("pool",)).compile()
    seconds, memory = time.perf_counter() - start, compiled.memory_analysis()
    found = {"compile_seconds": seconds, "temporary_bytes_a_device": getattr(memory, "temp_size_in_bytes", None)}
    return lambda: np.asarray(extraction(source)["pool"]), found


class Peer:
    """torch-fidelity in its own process, which is idle until it is asked for features."""

    def __init__(self, python: str, folder: Path):
        program = Path(__file__).with_name("inception_peer.py")
        self._process = subprocess.Popen(
            [python, str(program), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._answer()

    def seconds(self, batch_size: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{batch_size}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("--peer: it ended; its own words are above")
        return line.strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return all figures."""
    state, rng = random_state(), np.random.default_rng(1)
    images = rng.integers(0, 256, (options.images, options.size, options.size, 3), np.uint8)
    extractor = Extractor("Inception-v3", "random", inception.OUTPUTS, inception.variables(state), inception.apply)
    runs = {batch_size: ours(extractor, images, batch_size) for batch_size in options.batch_sizes}
    features = {batch_size: run() for batch_size, (run, _) in runs.items()}
    result: dict[str, Any] = {"images": len(images), "size": options.size}
    peer = None
    if options.peer:
        np.savez(folder / "state.npz", **state)
        np.save(folder / "images.npy", images)
        peer = Peer(options.peer, folder)
        theirs = np.load(folder / "pool.npy")
        difference = max(float(np.abs(each - theirs).max()) for each in features.values())
        result |= {"peer": peer.version, "largest_difference_of_features": difference / float(np.abs(theirs).max())}
    result["batch_sizes"] = {}
    for batch_size, (run, compiled) in runs.items():
        print(f"{batch_size} images at a time …", file=sys.stderr)
        seconds, of_peer = [], []
        for _ in range(options.repeats):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
            of_peer += [peer.seconds(batch_size)] if peer else []
        figures = {"images_per_second": len(images) / statistics.median(seconds), **compiled}
        if of_peer:
            figures["images_per_second_of_peer"] = len(images) / statistics.median(of_peer)
            ratios = [theirs / own for own, theirs in zip(seconds, of_peer, strict=True)]
            figures["times_as_fast"] = statistics.median(ratios)
        result["batch_sizes"][batch_size] = figures
    if peer:
        peer.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_sizes", default="16,64", help="images at a time, over all devices (default: 16,64)")
    parser.add_argument("--images", type=int, default=128, help="of which features are made (default: 128)")
    parser.add_argument("--size", type=int, default=32, help="their height and width (default: 32)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (default: 5)")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices (default: one a core)")
    parser.add_argument("--peer", default="", help="an interpreter with torch-fidelity")
    options = parser.parse_args()
    try:
        options.batch_sizes = [int(word) for word in options.batch_sizes.split(",")]
    except ValueError:
        parser.error(f"--batch_sizes={options.batch_sizes}: must be whole numbers, with commas between them")
    if min(options.images, options.size, options.repeats, *options.batch_sizes) < 1 or options.devices < 0:
        parser.error("--images, --size, --repeats, --batch_sizes: must be 1 or more, --devices 0 or more")
    parallel.setup(options.devices)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"machine": machine()} | measure(options, Path(folder)), indent=2))


if __name__ == "__main__":
    main()
