"""The cost of labels in a training step: a labeled config beside the same one without labels, as one JSON object.

    python benchmarks/labelled_step.py --cases=digits_conditional --steps=50

The two alternate in one process, one step each, so that other load on the machine affects both alike. `ratio` is the
median over these pairs of the labeled step's time over the other's, with quartiles `ratio_quartiles`. `cpu_ratio` is
the same for CPU time, which is more reliable on a shared machine. With --steps=0 the steps are compiled only; the
compiler's counts are reported in either case.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import jax
from train_step import LABELLED, WARMUP_STEPS, CompiledStep, chosen, compile_step, compiled_figures, machine

from vdm import parallel
from vdm.config import Config

COUNTED = ("num_parameters", "model_flops", "compiled_flops", "compiled_bytes_accessed", "kept_bytes")


def without_labels(config: Config) -> Config:
    """Return the config without labels, as with --config.data.labels=False."""
    data = replace(config.data, labels=False, classes=None, entries=None)
    return replace(config, data=data, network=replace(config.network, condition=()))


def compare(config: Config, num_steps: int) -> dict[str, Any]:
    """Return all figures of one case."""
    steps = {"labelled": compile_step(config), "unlabelled": compile_step(without_labels(config))}
    counts = {name: compiled_figures(step) for name, step in steps.items()}
    figures: dict[str, Any] = {name: {key: counts[name][key] for key in COUNTED} for name in steps}
    figures["ratios"] = {key: counts["labelled"][key] / counts["unlabelled"][key] for key in COUNTED}
    if num_steps == 0:
        return figures
    wall, cpu = in_turn(steps, num_steps)
    for name in steps:
        figures[name] |= {"step_seconds": statistics.median(wall[name]), "cpu_seconds": statistics.median(cpu[name])}
    ratios, cpu_ratios = (
        [labelled / other for labelled, other in zip(times["labelled"], times["unlabelled"], strict=True)]
        for times in (wall, cpu)
    )
    low, middle, high = statistics.quantiles(ratios, n=4)
    return figures | {"ratio": middle, "ratio_quartiles": [low, high], "cpu_ratio": statistics.median(cpu_ratios)}


def in_turn(steps: dict[str, CompiledStep], num_steps: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return wall-clock and CPU seconds of each step of each program."""
    states = {name: step.start() for name, step in steps.items()}
    batches = {name: step.batch() for name, step in steps.items()}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(WARMUP_STEPS + num_steps):
        # Alternate which one is the first of a pair.
        for name in sorted(steps, reverse=k % 2 == 1):
            begin, cpu_begin = time.perf_counter(), time.process_time()
            states[name] = jax.block_until_ready(steps[name].call(*states[name], batches[name]))
            wall[name].append(time.perf_counter() - begin)
            cpu[name].append(time.process_time() - cpu_begin)
    return tuple({name: times[WARMUP_STEPS:] for name, times in kind.items()} for kind in (wall, cpu))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=LABELLED[0], help=f"any of {','.join(LABELLED)} (default: {LABELLED[0]})")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices (default: one a core)")
    parser.add_argument("--steps", type=int, default=50, help="timed steps of each, 0: compile only (default: 50)")
    parser.add_argument("--channels", type=int, default=0, help="of the network (default: the case's)")
    parser.add_argument("--depth", type=int, default=0, help="of the network (default: the case's)")
    parser.add_argument("--batch_size", type=int, default=0, help="images a step (default: the case's)")
    options = parser.parse_args()
    configs = chosen(parser, options)
    if options.steps == 1 or min(options.steps, options.devices, options.channels, options.depth) < 0:
        parser.error("--steps: must be 0, or 2 or more; --devices, --channels, --depth: 0 or more")
    if unlabelled := [case for case, config in configs.items() if not config.network.condition]:
        parser.error(f"--cases={options.cases}: {unlabelled[0]!r} has no labels; must be among {', '.join(LABELLED)}")

    parallel.setup(options.devices)
    result: dict[str, Any] = {"machine": machine(), "cases": {}}
    for case, config in configs.items():
        print(f"{case} …", file=sys.stderr)
        config.training.batch_size = options.batch_size or config.training.batch_size
        result["cases"][case] = compare(config, options.steps)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
