"""Bits/dim against training steps for variants of a config, over several seeds, one JSON line per run.

    python benchmarks/convergence.py --config=configs/digits.py --all='network.depth=2 training.steps=400' \\
        --variants='adamw: optimizer.name=adamw optimizer.learning_rate=2e-3; half: training.steps=200' --out=runs.jsonl

A variant is a name with the config fields that it changes; `--all` has fields for every variant. Runs with the same
seed share initialization, data order, times and noise as far as possible. All are evaluated on the same test images
with the same noise, after the fractions `--evaluate` of their steps, both with the moving average and with the
variables themselves. Runs that are already in `--out` are not repeated. The differences from the first variant, paired
by seed, are printed to standard output.
"""

import argparse
import json
import math
import runpy
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
from train_step import machine

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, from_dict, to_dict, validate
from vdm.data import Dataset, load, resolve, train_iterator
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator
from vdm.keys import Stream, stream_key
from vdm.training import objective as objective_lib
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics, jit_train_step

WHICH = ("ema", "variables")


def changed(config: Config, settings: str) -> Config:
    """Set config fields, as in `training.steps=200 optimizer.name=muon`. Raises InputError for an unknown field."""
    values = to_dict(config)
    for setting in settings.split():
        name, equals, text = setting.partition("=")
        *groups, field = name.split(".")
        group: Any = values
        for each in groups:
            group = group.get(each) if isinstance(group, dict) else None
        if not equals or not isinstance(group, dict) or field not in group:
            raise InputError(f"{setting!r}: must be FIELD=VALUE, FIELD one of the config")
        try:
            group[field] = json.loads(text)
        except json.JSONDecodeError:
            group[field] = text
    return from_dict(values)


class Variant:
    """A variant of the config, with one compiled program for all seeds."""

    def __init__(self, config: Config, dataset: Dataset, parts: list[float], images: int, draws: int):
        self.dataset, self.images, self.draws = dataset, images, draws
        self.config = config = resolve(config, dataset)
        validate(config)
        self.marks = sorted({max(1, round(part * config.training.steps)) for part in parts})
        self.mesh = parallel.make_mesh(config.training.batch_size)
        self.model, self.objective = model_lib.for_training(config), objective_lib.from_config(config)
        self.optimizer = make_optimizer(config)
        self.step = jit_train_step(self.model, self.objective, self.optimizer, config, self.mesh)
        self.evaluator = Evaluator(model_lib.from_config(config), self.mesh, config.evaluation.batch_size)

    def run(self, seed: int) -> dict[str, Any]:
        """Train with a seed; return bits/dim at each mark, the mean gradient norm and the CPU time per step."""
        whole = parallel.replicated(self.mesh)
        make = jax.jit(lambda: init_state(self.model, self.objective, self.optimizer, seed), out_shardings=whole)
        state, metrics = make(), jax.jit(empty_metrics, out_shardings=whole)()
        c = self.config
        batches = train_iterator(
            self.dataset, batch_size=c.training.batch_size, seed=seed, augmentations=c.data.augmentations
        )
        bits_per_dim, seconds = {}, []
        for step in range(1, c.training.steps + 1):
            batch = parallel.shard_batch({"image": next(batches)["image"]}, self.mesh)
            begin = time.process_time()
            state, metrics = jax.block_until_ready(self.step(state, metrics, batch))
            seconds.append(time.process_time() - begin)
            if step in self.marks:
                values = dict(zip(WHICH, (state.ema, state.variables), strict=True))
                bits_per_dim[step] = {which: self._evaluate(variables) for which, variables in values.items()}
        batches.close()
        return {
            "bits_per_dim": bits_per_dim,
            "grad_norm": float(metrics.grad_norm) / c.training.steps,
            "cpu_seconds_a_step": statistics.median(seconds),
        }

    def _evaluate(self, variables: model_lib.Variables) -> float:
        key = stream_key(0, Stream.EVALUATION)
        return self.evaluator(variables, self.dataset.test, key, self.draws, self.images).total


def differences(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, by variant, the mean final bits/dim over seeds and the difference from the first, paired by seed."""
    last = {(run["variant"], run["seed"]): run["bits_per_dim"][max(run["bits_per_dim"], key=int)] for run in runs}
    first = runs[0]["variant"]
    found: dict[str, Any] = {}
    for name in dict.fromkeys(run["variant"] for run in runs):
        for which in WHICH:
            values = {seed: bits[which] for (variant, seed), bits in last.items() if variant == name}
            pairs = [v - last[first, seed][which] for seed, v in values.items() if (first, seed) in last]
            error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else None
            found.setdefault(name, {})[which] = {
                "bits_per_dim": statistics.fmean(values.values()),
                "seeds": len(values),
                "difference": statistics.fmean(pairs) if pairs else None,
                "stderr": error,
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="a file of configs/")
    parser.add_argument("--all", default="", help="FIELD=VALUE … of every variant")
    parser.add_argument("--variants", default="as it is:", help="NAME: FIELD=VALUE …; NAME: …")
    parser.add_argument("--seeds", default="0,1,2", help="(default: 0,1,2)")
    parser.add_argument("--evaluate", default="0.5,1", help="parts of the steps (default: 0.5,1)")
    parser.add_argument("--images", type=int, default=128, help="test images, 0: all (default: 128)")
    parser.add_argument("--draws", type=int, default=4, help="noise draws per image (default: 4)")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices (default: one a core)")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a run; added to")
    options = parser.parse_args()
    try:
        base = changed(runpy.run_path(str(options.config))["get_config"](), options.all)
        named = [text.partition(":") for text in options.variants.split(";") if text.strip()]
        variants = {name.strip(): changed(base, settings) for name, _, settings in named}
        seeds, parts = [int(s) for s in options.seeds.split(",")], [float(p) for p in options.evaluate.split(",")]
        for config in variants.values():
            validate(config)
    except (InputError, OSError, ValueError, KeyError) as error:
        parser.error(str(error))

    parallel.setup(options.devices)
    dataset = load(base.data)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = {(run["variant"], run["seed"]): run for run in map(json.loads, lines)}
    for name, config in variants.items():
        variant = None
        for seed in seeds:
            record = json.loads(json.dumps({"variant": name, "seed": seed, "config": to_dict(config)}))
            if (name, seed) in done:
                if done[name, seed]["config"] != record["config"]:
                    parser.error(f"--out={options.out}: its {name!r} has another config")
                continue
            print(f"{name}, seed {seed} …", file=sys.stderr)
            if variant is None:
                variant = Variant(config, dataset, parts, options.images, options.draws)
            line = json.dumps(record | variant.run(seed) | {"machine": machine()})
            done[name, seed] = json.loads(line)
            with options.out.open("a") as file:
                file.write(line + "\n")
    chosen = [done[name, seed] for name in variants for seed in seeds]
    print(json.dumps(differences(chosen), indent=2))


if __name__ == "__main__":
    main()
