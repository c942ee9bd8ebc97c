"""Devices and processes: start-up, the device mesh, sharding of batches and states, and agreement between processes.

All processes run the same program: each reads its share of a batch; only process 0 writes files and prints.
"""

import itertools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import multihost

from vdm.errors import InputError, one_line

T = TypeVar("T")

SHARDED_SIZE = 1024
"""Arrays with fewer elements are replicated on every device: gathering them costs more than keeping them."""

MESSAGE_BYTES = 4096

_calls = itertools.count(1)


def setup(
    num_cpu_devices: int = 0,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Set up devices and processes, before anything touches a device.

    On a CPU, use one XLA device per core, or `num_cpu_devices`. XLA's CPU backend runs element-wise work on one thread
    per device, so that one device per core, with the batch sharded, is about twice as fast on two cores. Each device
    then keeps to its own thread: with a shared thread pool, the devices' all-reduces can deadlock. No effect on GPU and
    TPU.

    With a `coordinator`, this process becomes one of several. It is the HOST:PORT of process 0, together with the
    number of processes and the number of this one, or `auto` where Slurm, Open MPI, Kubernetes or a TPU pod provide
    them. Raises `InputError` if one is given without the others, and if the processes do not find each other.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    # XLA_FLAGS may also name a file of flags, to which nothing can be added here.
    if "xla_cpu_multi_thread_eigen" not in flags and (not flags or flags.startswith("-")):
        flags = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        os.environ["XLA_FLAGS"] = flags
    if "xla_force_host_platform_device_count" not in flags:
        jax.config.update("jax_num_cpu_devices", num_cpu_devices or num_cores())
    _connect(coordinator, num_processes, process_id)


def _connect(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    by_hand = coordinator not in (None, "auto")
    for flag, value in (("--num_processes", num_processes), ("--process_id", process_id)):
        if by_hand and value is None:
            raise InputError(f"--coordinator={coordinator}: must go with {flag}")
        if not by_hand and value is not None:
            raise InputError(f"{flag}={value}: must go with --coordinator=HOST:PORT")
    if process_id is not None and num_processes is not None and not 0 <= process_id < num_processes:
        raise InputError(f"--process_id={process_id}: must be from 0 to {num_processes - 1}, below --num_processes")
    if coordinator is None:
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator if by_hand else None, num_processes, process_id)
    except (RuntimeError, ValueError) as error:  # what JAX raises if there is no such cluster
        raise InputError(f"--coordinator={coordinator}: {one_line(error)}") from error


def num_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_mesh(batch_size: int | None = None, fsdp: int = 1, accumulate: int = 1) -> Mesh:
    """Make a mesh ("data", "fsdp") over all devices, or over the largest number of them that divides `batch_size`.

    Each group of `fsdp` devices shares one copy of the state: see `state_sharding`. In a single process, devices are
    ordered by JAX for their network; with several processes, each process's devices are neighbors, so that its share of
    a batch is a contiguous block of rows. Raises `InputError` if no number of devices suits both `batch_size` and
    `fsdp`, if several processes would leave devices unused, and unless each of the `accumulate` parts of a batch
    divides among the devices.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    fits = [n for n in range(1, len(devices) + 1) if n % fsdp == 0 and (batch_size is None or batch_size % n == 0)]
    if not fits:
        raise InputError(
            f"config.training.fsdp={fsdp}: must divide the {len(devices)} devices"
            + ("" if batch_size is None else f" and training.batch_size={batch_size}")
        )
    if jax.process_count() > 1 and fits[-1] < len(devices):
        raise InputError(
            f"training.batch_size={batch_size}, fsdp={fsdp}: do not divide over the {len(devices)} devices of "
            f"{jax.process_count()} processes"
        )
    num = fits[-1]
    if batch_size is not None and (batch_size // accumulate) % num:
        raise InputError(
            f"config.training.accumulate={accumulate}: makes parts of {batch_size // accumulate} images, which do not "
            f"divide among the {num} devices; training.batch_size={batch_size} must be a multiple of both together, "
            f"{accumulate * num}"
        )
    shape, names, types = (num // fsdp, fsdp), ("data", "fsdp"), (AxisType.Auto,) * 2
    if jax.process_count() == 1:
        return jax.make_mesh(shape, names, axis_types=types, devices=devices[:num])
    return Mesh(np.asarray(devices).reshape(shape), names, axis_types=types)


def round_up(batch_size: int, mesh: Mesh) -> int:
    """Round `batch_size` up to a multiple of the number of devices in the mesh."""
    return -(-batch_size // mesh.devices.size) * mesh.devices.size


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Shard the first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def parts_sharding(mesh: Mesh) -> NamedSharding:
    """Shard the second axis over all devices, for a batch in parts: (parts, part, …)."""
    return NamedSharding(mesh, PartitionSpec(None, ("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """Keep the same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(tree: T, mesh: Mesh) -> T:
    """Return a sharding for each array of a state: large arrays are split along the longest axis that "fsdp" divides.

    Arrays smaller than `SHARDED_SIZE` are replicated. Parameters, their moments and their moving average have the same
    shapes, so they are sharded alike.
    """
    fsdp = mesh.shape["fsdp"]

    def sharding(x: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(x.shape) if size % fsdp == 0]
        if fsdp == 1 or not axes or x.size < SHARDED_SIZE:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*(None,) * longest, "fsdp"))

    return jax.tree.map(sharding, tree)


def gathered(tree: T, mesh: Mesh) -> T:
    """Within a program, gather whole arrays on every device to compute with them; the batch stays where it is."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Assemble each process's share of a batch into global arrays over the mesh."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}


def abstract(make: Callable[[], T], mesh: Mesh) -> T:
    """Return shapes, dtypes and `state_sharding` of what `make` would return, without computing it."""
    shapes = jax.eval_shape(make)
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, state_sharding(shapes, mesh)
    )


def throttle(value: Any) -> None:
    """On CPU devices, wait for `value`: their collectives have no queue, so only one program may run at a time."""
    if jax.default_backend() == "cpu":
        jax.block_until_ready(value)


def to_host(tree: Any) -> Any:
    """Gather arrays over the mesh into whole numpy arrays in every process; all processes must call it."""

    def one(x: jax.Array) -> np.ndarray:
        return np.asarray(x if x.is_fully_addressable else multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(one, tree)


def leave() -> None:
    """Tell the other processes that this one is about to end, waiting for at most ten seconds."""
    if jax.distributed.is_initialized():
        goodbye = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        goodbye.start()
        goodbye.join(10)


def is_main() -> bool:
    """Return whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def on_main(action: Callable[[], T]) -> T | None:
    """Run `action` in process 0 only, and return its result there and None in the others, which wait for it.

    If it fails, all processes raise an error.
    """
    if jax.process_count() == 1:
        return action()
    result, failure = None, None
    if is_main():
        try:
            result = action()
        except Exception as error:
            failure = error
    said = "" if failure is None else str(failure) or type(failure).__name__
    text = np.frombuffer(said.encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0"), np.uint8)
    said = bytes(multihost_utils.broadcast_one_to_all(text)).rstrip(b"\0").decode(errors="replace")
    if failure is not None:
        raise failure
    if said:
        raise InputError(said)
    return result


def meet(name: str) -> None:
    """Wait for all processes: a collective gives up on one that is half a minute late, e.g. because it is compiling."""
    if jax.process_count() > 1:
        everyone = set(range(jax.process_count()))
        multihost.sync_global_processes(f"vdm_{name}", processes=everyone)


def all_true(value: bool) -> bool:
    """Return whether `value` is true in every process; all of them must call it."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(jnp.asarray(value)).all())


def share_signals(received: list[int]) -> None:
    """Add a signal that any process has received to `received` of all processes, at the same call of this function.

    All processes must call it at the same places. It takes effect once in the life of a process, like a preemption.
    """
    if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(next(_calls)):
        received.append(signal.SIGTERM)


def describe(mesh: Mesh) -> dict[str, Any]:
    """Describe the devices, for the record of a run."""
    device = mesh.devices.flat[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "runtime": " ".join(device.client.platform_version.split()),
        "num_devices": int(mesh.devices.size),
        "num_processes": jax.process_count(),
        "fsdp": int(mesh.shape["fsdp"]),
    }
