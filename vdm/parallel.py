"""Devices: how many, the mesh over them, and where batches and states lie on it."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")


def setup(num_cpu_devices: int = 0) -> None:
    """Call before anything touches a device: on a CPU, one XLA device a core (or `num_cpu_devices`).

    XLA's CPU backend runs element-wise work on one thread a device, so a device a core with the batch sharded is
    about twice as fast on two cores. Each device then keeps to its own thread: with a shared pool of threads, the
    devices' all-reduces can wait for each other forever. No effect on GPU and TPU.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        flags = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        os.environ["XLA_FLAGS"] = flags
    if "xla_force_host_platform_device_count" not in flags:
        jax.config.update("jax_num_cpu_devices", num_cpu_devices or num_cores())


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_mesh(batch_size: int | None = None) -> Mesh:
    """A mesh ("data", "fsdp") over all devices, or over as many as divide `batch_size`."""
    devices = jax.devices()
    num = max(n for n in range(1, len(devices) + 1) if batch_size is None or batch_size % n == 0)
    return jax.make_mesh((num, 1), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices[:num])


def round_up(batch_size: int, mesh: Mesh) -> int:
    """The least multiple of the mesh's devices that is not below `batch_size`."""
    return -(-batch_size // mesh.devices.size) * mesh.devices.size


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def parts_sharding(mesh: Mesh) -> NamedSharding:
    """Of the parts of a batch, (parts, part, …): the second axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(None, ("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A process's share of a batch as global arrays over the mesh."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}


def abstract(make: Callable[[], T], sharding: NamedSharding) -> T:
    """Shapes, types and the given sharding of what `make` would return; nothing is computed."""
    shapes = jax.eval_shape(make)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def throttle(value: Any) -> None:
    """On CPU devices, waits for `value`: one program at a time, as their collectives have no queue. Else nothing."""
    if jax.default_backend() == "cpu":
        jax.block_until_ready(value)


def describe(mesh: Mesh) -> dict[str, Any]:
    """What the run's record says of its devices."""
    device = mesh.devices.flat[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "num_devices": int(mesh.devices.size),
        "num_processes": jax.process_count(),
    }
