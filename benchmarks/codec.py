"""Speed of the codec, with the time of the coder and of the network apart, as one JSON object.

    python benchmarks/codec.py --cases=digits,fashion --steps=20

A batch of random images is pushed onto a stack and popped again, by one chain and by two that share a device, with a
thread each. Networks have random weights. The coder's time is the CPU time of its thread without the network's calls,
so it is meaningful on a busy machine; all other times are medians of wall-clock times. Nothing is asserted.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from typing import Any

import jax
import numpy as np
from codec_bits import NETWORKS, made
from train_step import machine

from vdm import parallel
from vdm.codec.chain import Chain
from vdm.codec.normals import Stack
from vdm.evaluation.coding import chain_of


class Timed:
    """Wraps a network's calls and adds up the wall-clock and CPU time that a thread spends in them."""

    def __init__(self, chain: Chain):
        self._predict, chain.predict = chain.predict, self
        self.wall = self.own = 0.0

    def __call__(self, *arguments: Any) -> Any:
        wall, own = time.perf_counter(), time.thread_time()
        x_hat = np.asarray(self._predict(*arguments))
        self.wall += time.perf_counter() - wall
        self.own += time.thread_time() - own
        return x_hat


def measure(name: str, steps: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """Return all figures of one case."""
    model, variables = made(name)
    chains = [chain_of(model, variables, steps, batch_size) for _ in range(2)]
    rng = np.random.default_rng(0)
    images = rng.integers(0, model.levels, (batch_size, *model.shape)).astype(np.uint8)
    words = rng.integers(1, 1 << 32, images.size, dtype=np.uint32)

    def both(chain: Chain) -> None:
        stack = Stack(words)
        chain.push(stack, images, 0)
        chain.pop(stack, batch_size, 0)

    def together() -> None:
        threads = [threading.Thread(target=both, args=(chain,)) for chain in chains]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    both(chains[0])
    both(chains[1])
    alone, two = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        both(chains[0])
        middle = time.perf_counter()
        together()
        alone.append(middle - begin)
        two.append((time.perf_counter() - middle) / 2)
    timed = Timed(chains[0])
    halves: dict[str, list[float]] = {"push": [], "pop": []}
    network, wall = [], []
    for _ in range(repeats):
        stack, start = Stack(words), time.perf_counter()
        before = timed.wall
        for half, call in (
            ("push", lambda: chains[0].push(stack, images, 0)),  # noqa: B023
            ("pop", lambda: chains[0].pop(stack, batch_size, 0)),  # noqa: B023
        ):
            own = time.thread_time() - timed.own
            call()
            halves[half].append(time.thread_time() - timed.own - own)
        wall.append(time.perf_counter() - start)
        network.append(timed.wall - before)
    seconds, symbols = statistics.median(alone), images.size * steps
    return {
        "shape": list(model.shape),
        "T": steps,
        "batch_size": batch_size,
        "images_per_second": 2 * batch_size / seconds,
        "bytes_per_second": 2 * images.size / seconds,
        "coder_ns_a_dimension_and_step": {half: 1e9 * statistics.median(t) / symbols for half, t in halves.items()},
        "coder_share_of_wall": 1 - statistics.median(n / w for n, w in zip(network, wall, strict=True)),
        "two_threads_over_one": statistics.median(one / other for one, other in zip(alone, two, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="digits,fashion", help=f"any of {','.join(NETWORKS)}")
    parser.add_argument("--steps", type=int, default=20, help="T (default: 20)")
    parser.add_argument("--batch_size", type=int, default=32, help="images a batch (default: 32)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (default: 5)")
    options = parser.parse_args()
    names = options.cases.split(",")
    if unknown := sorted(set(names) - set(NETWORKS)):
        parser.error(f"--cases={unknown[0]}: must be of {', '.join(NETWORKS)}")
    if min(options.steps, options.batch_size, options.repeats) < 1:
        parser.error("--steps, --batch_size, --repeats: must be 1 or more")
    parallel.setup()
    result: dict[str, Any] = {"machine": machine(), "jax": jax.__version__, "cases": {}}
    for name in names:
        print(f"{name} …", file=sys.stderr)
        result["cases"][name] = measure(name, options.steps, options.batch_size, options.repeats)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
