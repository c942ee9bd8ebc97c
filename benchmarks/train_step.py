"""Speed, memory and FLOPs of the training step, as one JSON object on standard output.

    python benchmarks/train_step.py --cases=digits,rgb32 --steps=10
    python benchmarks/train_step.py --cases=cifar10 --steps=0 --precision=bfloat16 --remat
    python benchmarks/train_step.py --cases=cifar10 --steps=0 --devices=8 --fsdp=8

Times are medians over single steps, each waited for. With --steps=0 the step is compiled only and no array is created.
Nothing is asserted; compare the figures of two versions on the same, otherwise idle machine.
"""

import argparse
import functools
import json
import os
import platform
import resource
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, DataConfig, NetworkConfig, TrainingConfig, validate
from vdm.errors import InputError
from vdm.model import Batch, Model
from vdm.precisions import PRECISIONS
from vdm.speed import step_flops
from vdm.training import objective as objective_lib
from vdm.training.state import TrainState, init_state, make_optimizer
from vdm.training.step import Metrics, empty_metrics, jit_train_step, jit_train_steps

ROOT = Path(__file__).resolve().parent.parent
WARMUP_STEPS = 2
MATMUL_SIZE = 3072


def of_file(name: str) -> Callable[[], Config]:
    """Return the `get_config` of a file in configs/."""
    return lambda: cast(Config, runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]())


def rgb32() -> Config:
    """Return a config for 32×32 8-bit color images; the official code took 5.8–6.3 s a step at this size on 2 cores."""
    return Config(
        data=DataConfig(shape=(32, 32, 3), levels=256),
        network=NetworkConfig(channels=64, depth=8, attention="middle", dropout=0.1),
        training=TrainingConfig(batch_size=16),
    )


CASES: dict[str, Callable[[], Config]] = {"digits": of_file("digits"), "rgb32": rgb32, "cifar10": of_file("cifar10")}
LABELLED = ("digits_conditional", "cifar10_conditional", "imagenet64_unet", "imagenet64_dit")
CASES |= {name: of_file(name) for name in LABELLED}


class CompiledStep(NamedTuple):
    """The training step of a config as a compiled program, with its arguments."""

    config: Config
    model: Model
    mesh: Mesh
    program: jax.stages.Compiled
    state: TrainState
    """Shapes, dtypes and shardings of the state."""
    trace_seconds: float
    compile_seconds: float

    @property
    def model_flops(self) -> int:
        """FLOPs of the model in one step."""
        return step_flops(self.model, self.config.training.batch_size)

    @property
    def steps_per_call(self) -> int:
        return self.config.training.steps_per_call

    def call(self, state: TrainState, metrics: Metrics, batch: Batch) -> tuple[TrainState, Metrics]:
        """Run the program with the same batch in each of its steps."""
        num_steps = self.steps_per_call
        batches = [batch] if num_steps == 1 else [np.int32(num_steps), *[batch] * num_steps]
        after: tuple[TrainState, Metrics] = self.program(state, metrics, *batches)
        return after

    def start(self) -> tuple[TrainState, Metrics]:
        """Return a state at step 0 and empty metrics, whose memory the program takes over."""
        objective, optimizer = objective_lib.from_config(self.config), make_optimizer(self.config)
        state = jax.jit(
            lambda: init_state(self.model, objective, optimizer, self.config.seed),
            out_shardings=self.program.input_shardings[0][0],
        )()
        return state, jax.jit(empty_metrics, out_shardings=parallel.replicated(self.mesh))()

    def batch(self) -> Batch:
        """Return random images and, if the network takes them, labels."""
        rng, size = np.random.default_rng(0), self.config.training.batch_size
        batch = {"image": rng.integers(0, self.model.levels, (size, *self.model.shape)).astype(np.uint8)}
        batch |= {name: rng.integers(0, self.config.data.classes, size, np.int32) for name in self.model.condition}
        return parallel.shard_batch(batch, self.mesh)

    def times(self, num_calls: int) -> list[float]:
        """Return the seconds per step of calls that are each waited for, after `WARMUP_STEPS` untimed ones."""
        (state, metrics), batch, times = self.start(), self.batch(), []
        for _ in range(WARMUP_STEPS + num_calls):
            begin = time.perf_counter()
            state, metrics = jax.block_until_ready(self.call(state, metrics, batch))
            times.append((time.perf_counter() - begin) / self.steps_per_call)
        return times[WARMUP_STEPS:]


def compile_step(config: Config, mesh: Mesh | None = None, platform: str | None = None) -> CompiledStep:
    """Compile the step for the available devices, or for a mesh on the given platform, without allocating anything."""
    model = model_lib.for_training(config)
    if mesh is None:
        mesh = parallel.make_mesh(config.training.batch_size, config.training.fsdp, config.training.accumulate)
    objective, optimizer = objective_lib.from_config(config), make_optimizer(config)
    state = parallel.abstract(lambda: init_state(model, objective, optimizer, config.seed), mesh)
    metrics = parallel.abstract(empty_metrics, mesh)
    size, sharding = config.training.batch_size, parallel.batch_sharding(mesh)
    examples = {"image": jax.ShapeDtypeStruct(model.shape, jnp.uint8), **model.condition}
    batch = {name: jax.ShapeDtypeStruct((size, *x.shape), x.dtype, sharding=sharding) for name, x in examples.items()}
    num_steps = config.training.steps_per_call
    batches = [batch] if num_steps == 1 else [np.int32(num_steps), *[batch] * num_steps]
    jitted = jit_train_step if num_steps == 1 else jit_train_steps
    start = time.perf_counter()
    traced = jitted(model, objective, optimizer, config, mesh).trace(state, metrics, *batches)
    lowered = traced.lower(lowering_platforms=None if platform is None else (platform,))
    middle = time.perf_counter()
    program = lowered.compile()
    return CompiledStep(config, model, mesh, program, state, middle - start, time.perf_counter() - middle)


def measure(config: Config, num_steps: int) -> dict[str, Any]:
    """Return all figures of one case, without times if `num_steps` is 0."""
    step = compile_step(config)
    figures = compiled_figures(step)
    if num_steps == 0:
        return figures
    times = step.times(num_steps)
    seconds = statistics.median(times)
    # Measured directly after the steps, so that on a shared machine other load affects both speeds alike.
    matmul_flops_per_second = matmul_peak()
    return figures | {
        "step_seconds": seconds,
        "step_seconds_range": [min(times), max(times)],
        "images_per_second": config.training.batch_size / seconds,
        "process_max_rss_bytes_so_far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _rss_unit(),
        "model_flops_per_second": step.model_flops / seconds,
        "matmul_flops_per_second": matmul_flops_per_second,
        "share_of_matmul_peak": step.model_flops / seconds / matmul_flops_per_second,
    }


def compiled_figures(step: CompiledStep) -> dict[str, Any]:
    """Return the figures that are known without running the step."""
    config, num_devices = step.config, step.mesh.size
    # Cost and memory analysis describe the program of one device; the cost analysis counts the body of a loop once.
    cost: Any = step.program.cost_analysis()
    memory: Any = step.program.memory_analysis()
    compiled_flops = cost["flops"] * num_devices
    program_bytes = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    program_bytes -= memory.alias_size_in_bytes
    batch_size, accumulate = config.training.batch_size, config.training.accumulate
    return {
        "batch_size": batch_size,
        "precision": config.training.precision,
        "remat": config.network.remat,
        "accumulate": accumulate,
        "fsdp": config.training.fsdp,
        "num_devices": num_devices,
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(step.state.variables["network"])),
        "trace_seconds": step.trace_seconds,
        "compile_seconds": step.compile_seconds,
        "compiled_program_bytes": program_bytes * num_devices,
        "argument_bytes_per_device": memory.argument_size_in_bytes,
        "temporary_bytes_per_device": memory.temp_size_in_bytes,
        "compiled_bytes_accessed": cost["bytes accessed"] * num_devices,
        "kept_bytes": kept_bytes(step.model, step.state.variables, batch_size // accumulate),
        "model_flops": step.model_flops,
        "compiled_flops": compiled_flops,
        "compiled_over_model_flops": compiled_flops / step.model_flops,
    }


def kept_bytes(model: Model, variables: Any, batch_size: int) -> int:
    """Return the bytes that the network's backward pass needs from its forward pass, without the parameters.

    They are counted as JAX records them, before XLA, so on any platform. XLA keeps less where it recomputes cheap
    values.
    """

    def residuals(params: Any, z: jax.Array) -> Any:
        gamma, key = jnp.zeros(batch_size), jax.random.key(0)
        apply = functools.partial(model.network.apply, train=True, rngs={"dropout": key})
        given = {name: jnp.zeros((batch_size, *x.shape), x.dtype) for name, x in model.conditions.items()} or None
        return jax.vjp(lambda params, z: apply({"params": params}, z, gamma, given), params, z)[1]

    params = variables["network"]
    kept = jax.eval_shape(residuals, params, jax.ShapeDtypeStruct((batch_size, *model.shape), jnp.float32))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept)) - 4 * sum(
        x.size for x in jax.tree.leaves(params)
    )


def matmul_peak(repeats: int = 5) -> float:
    """Return the FLOP/s of float32 products of size `MATMUL_SIZE`, one at a time on every device; best of `repeats`."""
    mesh = parallel.make_mesh(jax.device_count())
    shape = (mesh.size, MATMUL_SIZE, MATMUL_SIZE)
    a = jax.device_put(np.ones(shape, np.float32), parallel.batch_sharding(mesh))
    product = jax.jit(jnp.matmul).lower(a, a).compile()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(product(a, a))
        times.append(time.perf_counter() - begin)
    return mesh.size * 2 * MATMUL_SIZE**3 / min(times)


def chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Config]:
    """Return the configs of --cases, with --channels and --depth if given; an unknown case is a one-line error."""
    configs = {}
    for case in options.cases.split(","):
        if case not in CASES:
            parser.error(f"--cases={options.cases}: {case!r} is not one of {', '.join(CASES)}")
        network = {name: value for name in ("channels", "depth") if (value := getattr(options, name, None))}
        config = CASES[case]()
        configs[case] = replace(config, network=replace(config.network, **network))
    return configs


def machine() -> dict[str, Any]:
    """Describe the machine that the figures were measured on."""
    return {
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_cores": parallel.num_cores(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _rss_unit() -> int:
    """Return the unit of `ru_maxrss` in bytes: 1024 on Linux, 1 on macOS."""
    return 1 if sys.platform == "darwin" else 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="digits,rgb32", help=f"any of {','.join(CASES)} (default: digits,rgb32)")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices (default: one a core)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps a case, 0: compile only (default: 10)")
    parser.add_argument("--precision", choices=PRECISIONS, default="tf32", help="of training (default: tf32)")
    parser.add_argument("--remat", action="store_true", help="with network.remat")
    parser.add_argument("--accumulate", type=int, default=1, help="parts a batch (default: 1)")
    parser.add_argument("--fsdp", type=int, default=1, help="devices that share a copy of the state (default: 1)")
    parser.add_argument("--depth", type=int, help="residual blocks down (default: the case's)")
    parser.add_argument("--batch_size", type=int, help="images a step (default: the case's)")
    options = parser.parse_args()
    configs = chosen(parser, options)
    if options.steps < 0 or options.devices < 0:
        parser.error(f"--steps={options.steps}, --devices={options.devices}: must be 0 or more")
    for config in configs.values():
        config.training.precision, config.network.remat = options.precision, options.remat
        config.training.accumulate, config.training.fsdp = options.accumulate, options.fsdp
        config.training.batch_size = options.batch_size or config.training.batch_size
        try:
            validate(config)
        except InputError as error:
            parser.error(str(error))

    parallel.setup(options.devices)
    try:
        for config in configs.values():
            parallel.make_mesh(config.training.batch_size, config.training.fsdp, config.training.accumulate)
    except InputError as error:
        parser.error(str(error))
    result: dict[str, Any] = {"machine": machine(), "cases": {}}
    for case, config in configs.items():
        print(f"{case} …", file=sys.stderr)
        result["cases"][case] = measure(config, options.steps)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
