"""The machine and its peak rates, with which everything else is compared."""

import importlib.metadata
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import train_step

from accelerator_parts.cases import PRECISIONS
from accelerator_parts.figures import Figures
from vdm.speed import peak_flops

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
ROUNDS = 10
"""Number of consecutive products, or copies, in a program."""


def measure(figures: Figures) -> None:
    """Record versions and memory, FLOP/s of a large product in each precision, and bytes/s of a copy."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    device = jax.local_devices()[0]
    figures.add(**train_step.machine(), versions=versions, memory=device.memory_stats() or {})
    size = 256 if figures.small else 8192
    for precision in PRECISIONS:
        measured = product_flops(size, precision)
        figures.add(**{f"{precision}_flops_per_second": measured})
        figures.add(**{f"{precision}_datasheet": peak_flops(device.device_kind, precision)})
    figures.add(copy_bytes_per_second=copy_bytes(2**20 if figures.small else 2**30))


def product_flops(size: int, precision: str) -> float:
    """Return the FLOP/s of products of square random matrices; with zeros a GPU may be faster."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    products = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}[precision]
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), dtype)

    @jax.jit
    def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
        # The scale keeps the numbers at about the same size.
        scaled = b * dtype(size**-0.5)
        return jax.lax.fori_loop(0, ROUNDS, lambda _, x: jnp.matmul(x, scaled, precision=products), a)

    return ROUNDS * 2 * size**3 / seconds(multiply, a, b)


def copy_bytes(num_bytes: int) -> float:
    """Return the bytes/s of device memory, reads and writes together."""
    x = jax.random.normal(jax.random.key(0), (num_bytes // 4,))
    # The carried array of a loop is read and written in each round.
    add = jax.jit(lambda x: jax.lax.fori_loop(0, ROUNDS, lambda _, x: x + 1, x))
    return ROUNDS * 2 * num_bytes / seconds(add, x)


def seconds(program: Callable[..., Any], *arguments: Any, repeats: int = 5) -> float:
    """Return the median seconds of several calls, each waited for, after one untimed call."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])
