"""Our training step beside a plain one of the same size, as one JSON object on standard output.

    python benchmarks/reference_step.py --cases=digits,rgb32 --steps=20

The reference is contained in this file: a Flax U-Net, a fixed linear schedule, the ε-loss in continuous time, AdamW and
a moving average, written in a straightforward way without extras. Three programs alternate in one process, so that
other load on the machine affects all alike: the reference, ours with the same fixed schedule (which adds the
reconstruction and prior terms of the bound, clipping, the metrics and the check for non-finite values), and ours as
configured (which adds the learned schedule and the gradient of its variance). `ratio` is the median step time over the
reference's. `cpu_ratio` is the same for CPU time, which is more reliable on a shared machine and, with CPU devices,
covers all work.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray
from train_step import CASES, WARMUP_STEPS, chosen, machine

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config
from vdm.training import objective as objective_lib
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics, make_train_step

Step = Callable[[Any, Array], tuple[Any, Any]]


class ReferenceNet(nn.Module):
    """The network ε̂(z, γ) of Kingma et al. (2021), §J."""

    channels: int
    depth: int
    gamma_min: float
    gamma_max: float
    fourier: tuple[int, int]
    dropout: float

    @nn.compact
    def __call__(self, z: Array, gamma: Array, train: bool) -> Array:
        channels = self.channels

        def norm(x: Array) -> Array:
            return nn.GroupNorm(x.shape[-1] // 4 if x.shape[-1] < 128 else 32)(x)

        def block(x: Array) -> Array:
            h = nn.Conv(channels, (3, 3))(nn.swish(norm(x)))
            h = h + nn.Dense(channels, use_bias=False, kernel_init=nn.initializers.zeros)(cond)[:, None, None, :]
            h = nn.Dropout(self.dropout, deterministic=not train)(nn.swish(norm(h)))
            h = nn.Conv(channels, (3, 3), kernel_init=nn.initializers.zeros)(h)
            return (x if x.shape[-1] == channels else nn.Dense(channels)(x)) + h

        def attention(x: Array) -> Array:
            h = norm(x).reshape(x.shape[0], -1, channels)
            q, k, v = nn.Dense(channels)(h), nn.Dense(channels)(h), nn.Dense(channels)(h)
            weights = jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", q, k) / math.sqrt(channels))
            h = jnp.einsum("bqk,bkc->bqc", weights, v)
            return x + nn.Dense(channels, kernel_init=nn.initializers.zeros)(h).reshape(x.shape)

        time = 1000 * (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        angles = time[:, None] * jnp.geomspace(1, 1e-4, channels // 2)[None, :]
        cond = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        for _ in range(2):
            cond = nn.swish(nn.Dense(4 * channels)(cond))

        features = [f(2**n * math.pi * z) for n in self.fourier for f in (jnp.sin, jnp.cos)]
        h = nn.Conv(channels, (3, 3))(jnp.concatenate([z, *features], axis=-1))
        skips = [h]
        for _ in range(self.depth):
            h = block(h)
            skips.append(h)
        h = block(attention(block(h)))
        while skips:
            h = block(jnp.concatenate([h, skips.pop()], axis=-1))
        h = nn.swish(norm(h))
        return z + nn.Conv(z.shape[-1], (3, 3), kernel_init=nn.initializers.zeros)(h)


class ReferenceState(NamedTuple):
    step: Array
    params: Any
    opt_state: optax.OptState
    ema: Any


def sizes(config: Config) -> tuple[tuple[int, ...], int]:
    """Return (shape of an image, number of its levels)."""
    shape, levels = config.data.shape, config.data.levels
    if shape is None or levels is None:
        raise ValueError(f"data.shape={shape}, data.levels={levels}: must be set")
    return shape, levels


def reference(config: Config) -> tuple[Callable[[], ReferenceState], Step]:
    """Return the reference as (function that makes the first state, one step), at the sizes of a config."""
    shape, levels = sizes(config)
    gamma_min, gamma_max = config.schedule.gamma_min, config.schedule.gamma_max
    net = ReferenceNet(
        config.network.channels,
        config.network.depth,
        gamma_min,
        gamma_max,
        (round(math.log2(levels)) - 1, round(math.log2(levels))),
        config.network.dropout,
    )
    c = config.optimizer
    rate = optax.warmup_constant_schedule(0.0, c.learning_rate, c.warmup_steps)
    optimizer = optax.adamw(rate, b1=c.b1, b2=c.b2, weight_decay=c.weight_decay)

    def init() -> ReferenceState:
        params = net.init(jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros(1), False)["params"]
        return ReferenceState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.tree.map(jnp.copy, params))

    def loss(params: Any, key: PRNGKeyArray, image: Array) -> Array:
        key_t, key_eps, key_dropout = jax.random.split(key, 3)
        x = (2 * image.astype(jnp.float32) + 1) / levels - 1
        t = jnp.mod(jax.random.uniform(key_t) + jnp.arange(len(x)) / len(x), 1.0)
        gamma = gamma_min + (gamma_max - gamma_min) * t
        eps = jax.random.normal(key_eps, x.shape)
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(g))[:, None, None, None] for g in (-gamma, gamma))
        z = alpha * x + sigma * eps
        eps_hat = jnp.asarray(net.apply({"params": params}, z, gamma, True, rngs={"dropout": key_dropout}))
        nats = 0.5 * (gamma_max - gamma_min) * jnp.sum((eps - eps_hat) ** 2, axis=(1, 2, 3))
        return jnp.mean(nats) / (math.prod(shape) * math.log(2))

    def step(state: ReferenceState, image: Array) -> tuple[ReferenceState, Array]:
        key = jax.random.fold_in(jax.random.key(1), state.step)
        value, gradient = jax.value_and_grad(loss)(state.params, key, image)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = jax.tree.map(lambda e, p: c.ema_decay * e + (1 - c.ema_decay) * p, state.ema, params)
        return ReferenceState(state.step + 1, params, opt_state, ema), value

    return init, step


def ours(config: Config) -> tuple[Callable[[], Any], Step]:
    """Return this package's step as (function that makes the first state and metrics, one step)."""
    model, objective = model_lib.for_training(config), objective_lib.from_config(config)
    optimizer = make_optimizer(config)
    train_step = make_train_step(model, objective, optimizer, config)

    def step(carry: Any, image: Array) -> tuple[Any, Array]:
        state, metrics = carry
        state, metrics = train_step(state, metrics, {"image": image})
        return (state, metrics), metrics.grad_norm

    return lambda: (init_state(model, objective, optimizer, config.seed), empty_metrics()), step


class Program:
    """A compiled step with its state on the devices of a mesh."""

    def __init__(self, parts: tuple[Callable[[], Any], Step], image: Array, mesh: Mesh):
        init, step = parts
        self.image, self.mesh = image, mesh
        self.state = jax.jit(init, out_shardings=parallel.replicated(mesh))()
        start = time.perf_counter()
        lowered = jax.jit(step, donate_argnums=0).lower(self.state, image)
        self.trace_seconds = time.perf_counter() - start
        self.step = lowered.compile()
        self.compile_seconds = time.perf_counter() - start - self.trace_seconds
        self.times: list[float] = []
        self.cpu_times: list[float] = []

    def run(self) -> None:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        self.state, _ = jax.block_until_ready(self.step(self.state, self.image))
        self.times.append(time.perf_counter() - begin)
        self.cpu_times.append(time.process_time() - cpu_begin)

    def figures(self) -> dict[str, Any]:
        """Return the times, and the compiler's cost estimates over all devices."""
        cost: Any = self.step.cost_analysis()
        memory: Any = self.step.memory_analysis()
        times = self.times[WARMUP_STEPS:]
        return {
            "step_seconds": statistics.median(times),
            "step_seconds_range": [min(times), max(times)],
            "cpu_seconds": statistics.median(self.cpu_times[WARMUP_STEPS:]),
            "trace_seconds": self.trace_seconds,
            "compile_seconds": self.compile_seconds,
            "compiled_flops": cost["flops"] * self.mesh.size,
            "bytes_accessed": cost["bytes accessed"] * self.mesh.size,
            "temporary_bytes": memory.temp_size_in_bytes * self.mesh.size,
            "all_reduces": (self.step.as_text() or "").count(" all-reduce("),
        }


def compare(config: Config, num_steps: int) -> dict[str, Any]:
    """Return all figures of one case."""
    batch_size, (shape, levels) = config.training.batch_size, sizes(config)
    mesh = parallel.make_mesh(batch_size)
    image = np.random.default_rng(0).integers(0, levels, (batch_size, *shape)).astype(np.uint8)
    batch = parallel.shard_batch({"image": image}, mesh)["image"]
    linear = replace(config, schedule=replace(config.schedule, name="linear"))
    parts = {"reference": reference(config), "ours_linear": ours(linear), "ours": ours(config)}
    programs = {name: Program(part, batch, mesh) for name, part in parts.items()}
    counts = [_size(programs["reference"].state.params), _size(programs["ours"].state[0].variables["network"])]
    if counts[0] != counts[1]:
        raise AssertionError(f"parameters of the reference and of ours: {counts}; must be equal")
    for _ in range(WARMUP_STEPS + num_steps):
        for program in programs.values():
            program.run()
    figures = {name: program.figures() for name, program in programs.items()}
    for each in figures.values():
        each["ratio"] = each["step_seconds"] / figures["reference"]["step_seconds"]
        each["cpu_ratio"] = each["cpu_seconds"] / figures["reference"]["cpu_seconds"]
    return {"batch_size": batch_size, "num_devices": mesh.size, "num_parameters": counts[0], "programs": figures}


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help=f"any of {','.join(CASES)} (default: all)")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices (default: one a core)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each program (default: 20)")
    parser.add_argument("--channels", type=int, default=0, help="of the network (default: the case's)")
    parser.add_argument("--depth", type=int, default=0, help="of the network (default: the case's)")
    options = parser.parse_args()
    configs = chosen(parser, options)
    if options.steps < 1 or min(options.devices, options.channels, options.depth) < 0:
        parser.error("--steps: must be 1 or more; --devices, --channels, --depth: 0 or more")

    parallel.setup(options.devices)
    result: dict[str, Any] = {"machine": machine(), "cases": {}}
    for case, config in configs.items():
        print(f"{case} …", file=sys.stderr)
        result["cases"][case] = compare(config, options.steps)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
